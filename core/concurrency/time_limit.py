"""Time limit: wait for a call that may hang, such as one to a disk of another machine, for a limited time only."""

import threading
from collections.abc import Callable
from typing import TypeVar

from core.concurrency import blocking_call

T = TypeVar("T")


class TimeLimit:
    """A time limit for calls, each in a thread of its own. Thread-safe.

    Args:
        seconds: how long the caller waits. A call that hangs goes on in its thread, since none can be ended.
        max_hung: with so many calls that hang, no other one begins.
    """

    def __init__(self, seconds: float, max_hung: int) -> None:
        self._seconds = seconds
        self._max_hung = max_hung
        self._lock = threading.Lock()
        self._hung: set[threading.Thread] = set()

    def call(self, function: Callable[[], T]) -> T:
        """Return the result of a function.

        Raises:
            TimeoutError: it has not ended in time, or too many others hang.
            Exception: the function raised it.
        """
        with self._lock:
            self._hung = {thread for thread in self._hung if thread.is_alive()}
            if len(self._hung) >= self._max_hung:
                raise TimeoutError
        blocking = blocking_call.BlockingCall(function)
        thread = threading.Thread(target=blocking.run, name="time limit", daemon=True)
        thread.start()
        try:
            return blocking.result(self._seconds)
        except TimeoutError:
            with self._lock:
                self._hung.add(thread)
            raise
