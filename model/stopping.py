"""Keeps ctrl-C and SIGTERM as a wish that is heard between two steps, so that nothing is half done."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Wish:
    """Whether somebody has asked to stop; the second time, the process ends as it would without us."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal != 0

    @property
    def code(self) -> int:
        """The exit code that tells a shell which signal it was."""
        return 128 + self.signal

    def _hear(self, number: int, _frame: Any) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def listening() -> Iterator[Wish]:
    """Hears signals instead of letting them interrupt, until the end of the block."""
    wish = Wish()
    before = {number: signal.signal(number, wish._hear) for number in (signal.SIGINT, signal.SIGTERM)}  # noqa: SLF001 - its own module
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
