import asyncio
import time

import pytest
import redis

from jobs import notices
from tests import servers


def test_what_is_told_is_heard(redis_url):
    """By everybody who listens; many at once are one message or more, and none is left out."""

    async def listen():
        told = notices.Notices(redis_url)
        async with told.heard() as heard:
            other = notices.Notices(redis_url)
            for n in range(50):
                other.tell([f"job-{n}"])
            seen = set()
            async for job_ids in heard:
                seen |= job_ids
                if len(seen) == 50:
                    return seen
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(listen(), 20)) == {f"job-{n}" for n in range(50)}


def test_telling_costs_nothing_with_redis_gone():
    """It returns at once, also the hundredth time."""
    told = notices.Notices(f"redis://127.0.0.1:{servers.free_port()}/0")
    started = time.monotonic()
    for n in range(100):
        told.tell([str(n)])
    assert time.monotonic() - started < 1


def test_listening_without_redis_says_so():
    """Who listens then looks by itself."""

    async def listen():
        async with notices.Notices(f"redis://127.0.0.1:{servers.free_port()}/0").heard():
            pass

    with pytest.raises((redis.RedisError, OSError)):
        asyncio.run(listen())
