"""Group commit: items submitted while a flush is running are flushed together by the next."""

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Flushes the items of several threads in one call.

    Args:
        flush: receives the items in the order in which they were submitted; returns a result for each.
    """

    def __init__(self, flush: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._flush = flush
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._pending: tuple[list[T], futures.Future[Sequence[R]]] | None = None

    def submit(self, item: T) -> R:
        """Return the result of a flush that began after the call; a flush's error is raised for all its items.

        While a flush is running, items gather, and the next flush takes them all.
        """
        with self._lock:
            is_leader = self._pending is None
            batch, results = self._pending = self._pending or ([], futures.Future())
            index = len(batch)
            batch.append(item)
        if is_leader:
            with self._flush_lock:
                with self._lock:
                    self._pending = None
                try:
                    results.set_result(self._flush(batch))
                except BaseException as error:  # noqa: BLE001 (else the other callers would wait without end)
                    results.set_exception(error)
        return results.result()[index]
