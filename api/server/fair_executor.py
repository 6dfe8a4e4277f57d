"""Fair executor: a thread pool whose senders take turns, so that one with many requests does not delay the others."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class FairExecutor:
    """Threads for the calls of one event loop."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The calls of each sender that wait for a thread; the first sender is next."""

    async def run(self, sender: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in a thread, when it is the turn of its sender."""
        await self._acquire(sender)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        finally:
            self._release()

    async def _acquire(self, sender: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sender, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had its turn already
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            sender, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[sender] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def shutdown(self, **options: Any) -> None:
        """End the threads."""
        self._threads.shutdown(**options)
