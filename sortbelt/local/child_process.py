"""Supervised child process: restarted when it exits, and stopped with its descendants."""

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

EARLY_CRASH_SECONDS = 3.0
BACKOFF_RANGE_SECONDS = (0.5, 10.0)
PR_SET_PDEATHSIG = 1
LAST_LINES = 8  # of a log, in the message about a program that keeps exiting
PRIVATE_UMASK = 0o077  # what the servers create, only this user can read


@dataclass(frozen=True, slots=True)
class Program:
    """Program to run: name in messages, command line, environment, and log file for its output."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path


class SupervisedProcess:
    """Program that is kept running.

    Attributes:
        crashes: number of exits.
        consecutive_crashes: number of exits in a row, each soon after a start.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.crashes = 0
        self.consecutive_crashes = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_at = 0.0

    @property
    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own, so that ctrl-C reaches only the supervisor."""
        self._process = launch(self.program)
        self._started_at = time.monotonic()

    def check(self) -> str | None:
        """Restart it if it has exited and its backoff is over.

        Returns:
            A message when an exit was detected, else None.
        """
        if self._process is None:
            if time.monotonic() >= self._restart_at:
                self.start()
            return None
        status = self._process.poll()
        if status is None:
            return None
        self.signal_all(signal.SIGKILL)  # its descendants may live on
        is_early = time.monotonic() - self._started_at < EARLY_CRASH_SECONDS
        self.crashes += 1
        self.consecutive_crashes = self.consecutive_crashes + 1 if is_early else 1
        min_delay, max_delay = BACKOFF_RANGE_SECONDS
        delay = min(max_delay, min_delay * 2 ** min(self.consecutive_crashes - 1, 10))
        self._process, self._restart_at = None, time.monotonic() + delay
        return f"{self.program.name} {_describe_exit(status)}; restart in {delay:g} s (log: {self.program.log})."

    def signal(self, signum: int) -> None:
        """Send a signal to the process itself."""
        if self._process is not None:
            self._process.send_signal(signum)

    def signal_all(self, signum: int) -> None:
        """Send a signal to the process group, even if the process itself has exited."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signum)

    def last_lines(self) -> str:
        """Return the last lines of its log."""
        with contextlib.suppress(OSError), self.program.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8_000))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:])
        return ""


def launch(program: Program) -> subprocess.Popen[bytes]:
    """Start a program once, with its output in its log."""
    with open(os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:  # noqa: PTH123 - private from the first byte on
        return subprocess.Popen(
            program.command,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=PRIVATE_UMASK,
            preexec_fn=parent_death_signal(),  # noqa: PLW1509 - the supervisor has one thread
        )


def parent_death_signal() -> "_ParentDeathSignal | None":
    """Return what a child runs before its program, so that it gets SIGTERM when this process ends (Linux only)."""
    return _ParentDeathSignal() if sys.platform == "linux" else None


class _ParentDeathSignal:
    """Make the kernel send SIGTERM to the child when the supervisor exits, even by SIGKILL (Linux only)."""

    def __init__(self) -> None:
        self._prctl = ctypes.CDLL(None).prctl  # looked up before the fork, since a lookup after it may deadlock
        self._parent_pid = os.getpid()

    def __call__(self) -> None:
        self._prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent_pid:  # it exited before the line above
            os._exit(1)


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
