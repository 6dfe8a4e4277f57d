"""Foreground program: a child that shares this terminal, and ends with this command."""

import signal
import subprocess
from collections.abc import Mapping, Sequence

from sortbelt.local import child_process

INTERRUPT_GRACE_SECONDS = 10.0  # for the child to end by itself, since the terminal sends it ctrl-C too


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program whose messages are on stderr, and return its exit code as a shell reports it.

    Raises:
        KeyboardInterrupt: ctrl-C was pressed; the child has ended.
    """
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=child_process.parent_death_signal(),  # noqa: PLW1509 - this command has one thread
    )
    try:
        code = process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise
    return code if code >= 0 else 128 - code


def _end(process: subprocess.Popen[bytes]) -> None:
    for signum in (signal.SIGINT, signal.SIGKILL):
        try:
            process.wait(INTERRUPT_GRACE_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signum)
    process.wait()
