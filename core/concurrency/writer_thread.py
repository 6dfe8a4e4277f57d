"""Writer thread: items submitted while a write is running are written together by the next, of all senders in turn."""

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

from core.concurrency import turn_queue

T = TypeVar("T")
R = TypeVar("R")


class WriterThread(Generic[T, R]):
    """A thread that writes the items of all other threads, which need not wait for it.

    A write is part of the trace of its first item.

    Args:
        write: receives items of several senders in turn; returns a result or an exception for each.
        max_items: the most items of one write.
        weigh: returns the weight of an item.
        max_weight: the weight of one write, which its last item may exceed.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        name: str,
        max_items: int,
        weigh: Callable[[T], int],
        max_weight: int,
    ) -> None:
        self._write = write
        self._name = name
        self._max_items = max_items
        self._weigh = weigh
        self._max_weight = max_weight
        self._pending: turn_queue.TurnQueue[tuple[T, futures.Future[R], contextvars.Context]] = turn_queue.TurnQueue()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, sender: str, item: T) -> futures.Future[R]:
        """Return the future result of a write that begins after the call."""
        future: futures.Future[R] = futures.Future()
        with self._changed:
            self._pending.put(sender, (item, future, contextvars.copy_context()))
            if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending:
                    self._changed.wait()
                group = self._take_group()
            outcomes: Sequence[R | BaseException]
            try:
                outcomes = group[0][2].run(self._write, [item for item, _, _ in group])
            except BaseException as error:  # noqa: BLE001 (else the callers would wait without end)
                outcomes = [error] * len(group)
            _set_outcomes([future for _, future, _ in group], outcomes)
            del group, outcomes  # they hold the bytes of images

    def _take_group(self) -> list[tuple[T, futures.Future[R], contextvars.Context]]:
        group: list[tuple[T, futures.Future[R], contextvars.Context]] = []
        weight = 0
        while len(group) < self._max_items and weight < self._max_weight and (taken := self._pending.take()):
            group.append(taken[1])
            weight += self._weigh(taken[1][0])
        return group


def _set_outcomes(pending: Sequence[futures.Future[R]], outcomes: Sequence[R | BaseException]) -> None:
    for future, outcome in zip(pending, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
