"""The command that `sortbelt up -- COMMAND…` runs for as long as everything is up."""

import os
import subprocess
import time
from collections.abc import Sequence

from sortbelt import errors

INTERRUPT_SECONDS = 2.0  # for a command that heard ctrl-C itself to say its last words


class Guest:
    """A running command, which was told by its environment where the server is.

    Raises:
        errors.BadInput: there is no such command.
    """

    def __init__(self, words: Sequence[str], url: str, key: str) -> None:
        try:
            self._process = subprocess.Popen(words, env={**os.environ, "SORTBELT_URL": url, "SORTBELT_KEY": key})
        except OSError as error:
            raise errors.BadInput(f"{words[0]} cannot be run: {error.strerror}.", "no_command") from None
        self._asked = 0.0

    def exit_code(self) -> int | None:
        """How it ended, as a shell would tell it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def leave(self, *, interrupted: bool, hurry: bool) -> None:
        """Ask it to end; may be called again and again.

        Args:
            interrupted: whether ctrl-C was pressed, which the terminal has told it too.
            hurry: whether there is no time left for it.
        """
        self._asked = self._asked or time.monotonic()
        if hurry:
            self._process.kill()
        elif not interrupted or time.monotonic() - self._asked > INTERRUPT_SECONDS:
            self._process.terminate()

    def turn_out(self) -> None:
        """End it now, if it has not ended."""
        self._process.kill()
        self._process.wait()
