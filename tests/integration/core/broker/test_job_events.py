import asyncio
import time

import pytest
import redis

from core.broker import job_events, redis_clients
from tests.support import servers


def test_published_events_are_received(redis_url):
    """Every subscriber receives every job id; events published together may share a message."""

    async def listen():
        events = job_events.JobEvents(redis_url)
        async with events.subscribe() as changes:
            other = job_events.JobEvents(redis_url)
            for n in range(50):
                other.publish([f"job-{n}"])
            seen = set()
            async for job_ids in changes:
                seen |= job_ids.keys()
                if len(seen) == 50:
                    return seen
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(listen(), 20)) == {f"job-{n}" for n in range(50)}


def test_publishing_costs_nothing_without_redis():
    """It returns at once, also the hundredth time."""
    events = job_events.JobEvents(f"redis://127.0.0.1:{servers.free_port()}/0")
    started = time.monotonic()
    for n in range(100):
        events.publish([str(n)])
    assert time.monotonic() - started < 10


def test_subscribing_without_redis_raises():
    """The caller then polls."""

    async def listen():
        async with job_events.JobEvents(f"redis://127.0.0.1:{servers.free_port()}/0").subscribe():
            pass

    with pytest.raises((redis.RedisError, OSError)):
        asyncio.run(listen())


def test_messages_of_others_on_the_channel_are_skipped(redis_url):
    """Whatever is published there, a listener goes on and receives the next event."""

    async def listen():
        events = job_events.JobEvents(redis_url)
        async with events.subscribe() as changes:
            with redis_clients.create(redis_url) as client:
                for rubbish in (b"\xff\xfe\x00", b"", b"\x80job-1", "é\n\u2028".encode(), b"x" * 1_000_000):
                    client.publish(job_events.CHANNEL, rubbish)
            events.publish(["job-1"])
            async for job_ids in changes:
                if job_ids.keys() == {"job-1"}:
                    return True
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(listen(), 20))
