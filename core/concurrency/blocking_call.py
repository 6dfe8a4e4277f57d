"""Blocking call: a future whose result is computed by the first caller that can afford to wait for it."""

from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar("T")


class BlockingCall(futures.Future[T]):
    """A call that may block, and has not begun."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__()
        self._call = call

    def run(self) -> None:
        """Call the function in this thread; its result or exception is that of the future."""
        try:
            self.set_result(self._call())
        except BaseException as error:  # noqa: BLE001 (it is raised by `result`)
            self.set_exception(error)


def wait(future: futures.Future[T]) -> T:
    """Return the result of a future, and run it first if it is a blocking call."""
    if isinstance(future, BlockingCall):
        future.run()
    return future.result()
