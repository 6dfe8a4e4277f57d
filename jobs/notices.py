"""Notices: who has changed jobs says which, over Redis, so that who waits for them looks at once. All may be lost."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterable

import redis
from redis import asyncio as aioredis

CHANNEL = "sortbelt.jobs"
BREAK_SECONDS = 2.0  # how long Redis is left alone after it did not answer
TIMEOUT_SECONDS = 2.0

log = logging.getLogger(__name__)


def client(redis_url: str) -> redis.Redis:
    """A client that nobody waits long for."""
    patience = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    return redis.Redis.from_url(_known(redis_url), **patience, retry=None)


def _known(redis_url: str) -> str:
    """As the client spells it, which does not know kombu's name for a socket."""
    return redis_url.replace("redis+socket://", "unix://")


class Notices:
    """Tells from a thread of its own, so that nobody ever waits for Redis; what was not heard is not said again."""

    def __init__(self, redis_url: str) -> None:
        self._url = _known(redis_url)
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._moved: set[str] = set()
        self._thread: threading.Thread | None = None

    def tell(self, job_ids: Iterable[str]) -> None:
        """Say that these jobs have changed; returns at once, and never fails."""
        with self._lock:
            self._moved.update(job_ids)
            if self._thread is None or not self._thread.is_alive():  # a fork leaves threads behind
                self._thread = threading.Thread(target=self._teller, name="notices", daemon=True)
                self._thread.start()
        self._some.set()

    def _teller(self) -> None:
        line = client(self._url)
        while True:
            self._some.wait()
            self._some.clear()
            with self._lock:
                moved, self._moved = self._moved, set()
            try:
                line.publish(CHANNEL, " ".join(moved))
            except redis.RedisError as error:
                log.debug("nobody is told of changed jobs: %s", error)
                time.sleep(BREAK_SECONDS)

    @contextlib.asynccontextmanager
    async def heard(self) -> AsyncIterator[AsyncIterator[set[str]]]:
        """Listen: the ids of changed jobs, as they are told.

        Raises:
            redis.RedisError: Redis does not answer, or no more.
        """
        client = aioredis.Redis.from_url(self._url, socket_connect_timeout=TIMEOUT_SECONDS, health_check_interval=10)
        async with client, client.pubsub(ignore_subscribe_messages=True) as line:
            await line.subscribe(CHANNEL)
            yield _read(line)


async def _read(line: aioredis.client.PubSub) -> AsyncIterator[set[str]]:
    while True:
        message = await line.get_message(timeout=5.0)
        if message is not None:
            yield set(message["data"].decode().split())
        await asyncio.sleep(0)
