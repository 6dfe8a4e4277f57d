"""A child process that is kept alive: started, started again when it dies, and stopped with everything it started."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

QUICK_DEATH_SECONDS = 3.0
BACKOFF_SECONDS = (0.5, 10.0)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: its name in messages, command line, environment, and the file that takes its output."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path


class Child:
    """A program that shall always run.

    Attributes:
        deaths: how often it died.
        deaths_in_a_row: how often in a row it died soon after its start.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.deaths = 0
        self.deaths_in_a_row = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it, in a session of its own: ctrl-C in the terminal is the supervisor's to handle."""
        self._process = launch(self.program)
        self._started = time.monotonic()

    def tend(self) -> str | None:
        """Start it again if it died and its pause is over.

        Returns:
            a sentence when a death was noticed, else None.
        """
        if self._process is None:
            if time.monotonic() >= self._due:
                self.start()
            return None
        status = self._process.poll()
        if status is None:
            return None
        self.signal_all(signal.SIGKILL)  # what it had started, and left behind
        quick = time.monotonic() - self._started < QUICK_DEATH_SECONDS
        self.deaths += 1
        self.deaths_in_a_row = self.deaths_in_a_row + 1 if quick else 1
        least, most = BACKOFF_SECONDS
        pause = min(most, least * 2 ** min(self.deaths_in_a_row - 1, 10))
        self._process, self._due = None, time.monotonic() + pause
        return f"{self.program.name} {_how(status)}; starting it again in {pause:g} s (log: {self.program.log})."

    def signal(self, number: int) -> None:
        """Send a signal to the process itself."""
        if self._process is not None:
            self._process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the process and all that it started, even if it is dead itself."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def last_lines(self, count: int = 8) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError), self.program.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8_000))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-count:])
        return ""


def launch(program: Program) -> subprocess.Popen[bytes]:
    """Start a program once, its output going to its log."""
    with program.log.open("ab") as log:
        return subprocess.Popen(
            program.command,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent(),  # noqa: PLW1509 - the supervisor has one thread
        )


def _end_with_parent() -> "_EndWithParent | None":
    return _EndWithParent() if sys.platform == "linux" else None


class _EndWithParent:
    """Lets the kernel send SIGTERM to the child when the supervisor dies, even by SIGKILL (Linux only)."""

    def __init__(self) -> None:
        self._prctl = ctypes.CDLL(None).prctl  # found before the fork, where looking it up may lock
        self._parent = os.getpid()

    def __call__(self) -> None:
        self._prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent:  # it died before the line above
            os._exit(1)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
