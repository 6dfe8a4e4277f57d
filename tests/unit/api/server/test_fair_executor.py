"""The fair executor: senders take turns for its threads."""

import asyncio
import threading

import pytest

from api.server import fair_executor


def test_senders_take_turns():
    """A sender with one call waits for one call of each other sender, however many these have."""
    order = []

    async def main():
        executor, begin = fair_executor.FairExecutor(1, "t"), threading.Event()
        calls = [asyncio.create_task(executor.run("greedy", begin.wait))]
        await asyncio.sleep(0)
        calls += [asyncio.create_task(executor.run("greedy", order.append, f"greedy {n}")) for n in range(5)]
        await asyncio.sleep(0)
        calls += [asyncio.create_task(executor.run(name, order.append, name)) for name in ("quiet", "other")]
        await asyncio.sleep(0)
        begin.set()
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert order == ["greedy 0", "quiet", "other", "greedy 1", "greedy 2", "greedy 3", "greedy 4"]


def test_one_thread_is_left_to_other_senders():
    """However many calls of one sender run for long, those of another find a thread."""

    async def main():
        executor, end = fair_executor.FairExecutor(3, "t"), threading.Event()
        calls = [asyncio.create_task(executor.run("greedy", end.wait)) for _ in range(5)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await executor.run("quiet", int, "1") == 1
        end.set()
        await asyncio.gather(*calls)

    asyncio.run(main())


def test_cancelled_and_failed_calls_leave_their_thread_to_others():
    """Whether a call is cancelled while it waits, just when its turn comes, or fails."""

    async def main():
        executor, begin = fair_executor.FairExecutor(1, "t"), threading.Event()
        running = asyncio.create_task(executor.run("a", begin.wait))
        waiting = [asyncio.create_task(executor.run("a", int, "1")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        begin.set()
        await running
        waiting[1].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, True, False]
        with pytest.raises(ValueError, match="invalid literal"):
            await executor.run("b", int, "x")
        async with asyncio.timeout(10):
            assert await executor.run("c", int, "3") == 3

    asyncio.run(main())
