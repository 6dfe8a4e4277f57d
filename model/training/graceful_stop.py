"""Turn SIGINT and SIGTERM into a flag that the training loop checks between steps."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class StopFlag:
    """Whether a signal has arrived. A second signal has its default effect: it ends the process."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for this signal."""
        return 128 + self.signal

    def handle_signal(self, number: int, _frame: Any) -> None:
        """Set the flag, and restore the default handler."""
        self.signal = number
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def catch_signals() -> Iterator[StopFlag]:
    """Set the flag on SIGINT and SIGTERM until the block ends."""
    stop_flag = StopFlag()
    previous_handlers = {
        number: signal.signal(number, stop_flag.handle_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop_flag
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
