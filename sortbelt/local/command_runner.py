"""Wrapped command: what `sortbelt up -- COMMAND…` runs while the server is up."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from sortbelt import errors

INTERRUPT_GRACE_SECONDS = 2.0  # for a command that got ctrl-C from the terminal to end by itself


class WrappedCommand:
    """Running command, with SORTBELT_URL, SORTBELT_KEY and SORTBELT_DATA_DIR in its environment.

    Raises:
        errors.BadInput: the command does not exist, or cannot be run.
    """

    def __init__(self, argv: Sequence[str], url: str, key: str, data_dir: Path) -> None:
        server = {"SORTBELT_URL": url, "SORTBELT_KEY": key, "SORTBELT_DATA_DIR": str(data_dir)}
        try:
            self._process = subprocess.Popen(argv, env={**os.environ, **server})
        except OSError as error:
            raise errors.BadInput(f"{argv[0]} cannot be run: {error.strerror}.", "no_command") from None
        self._stop_requested_at = 0.0

    def exit_code(self) -> int | None:
        """Return the exit code as a shell reports it; None while the command runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def request_stop(self, *, interrupted: bool, force: bool) -> None:
        """Stop the command; may be called repeatedly.

        Args:
            interrupted: whether ctrl-C was pressed, which the terminal sends to the command as well.
            force: whether to kill it now.
        """
        self._stop_requested_at = self._stop_requested_at or time.monotonic()
        if force:
            self._process.kill()
        elif not interrupted or time.monotonic() - self._stop_requested_at > INTERRUPT_GRACE_SECONDS:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the command, unless it has ended."""
        self._process.kill()
        self._process.wait()
