"""Fair executor: a thread pool whose senders take turns, so that one with many requests does not delay the others."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar, TypeVarTuple

from core.concurrency import turn_queue

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class FairExecutor:
    """Threads for the calls of one event loop; where there are several, one is always left to other senders."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._max_per_sender = max(1, threads - 1)
        self._running: Counter[str] = Counter()
        self._waiting: turn_queue.TurnQueue[asyncio.Future[None]] = turn_queue.TurnQueue()

    async def run(self, sender: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in a thread, when it is the turn of its sender."""
        await self._acquire(sender)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        finally:
            self._release(sender)

    async def _acquire(self, sender: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(sender, turn)
        self._start_waiting()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had its turn already
                self._release(sender)
            raise

    def _release(self, sender: str) -> None:
        self._free += 1
        self._running[sender] -= 1
        if not self._running[sender]:
            del self._running[sender]
        self._start_waiting()

    def _start_waiting(self) -> None:
        """Give free threads to the calls whose turn it is."""
        while self._free and (taken := self._waiting.take(self._may_run)) is not None:
            sender, turn = taken
            if not turn.done():
                self._free -= 1
                self._running[sender] += 1
                turn.set_result(None)

    def _may_run(self, sender: str) -> bool:
        return self._running[sender] < self._max_per_sender
