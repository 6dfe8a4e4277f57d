"""Job events by Redis publish/subscribe: changed jobs, so that waiting clients are served at once.

Any event may be lost.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterable, Mapping

import redis
from redis import asyncio as aioredis

from core.broker import job_notice, redis_clients

CHANNEL = "sortbelt.jobs"
Changes = Mapping[str, job_notice.JobNotice | None]
"""The ids of changed jobs; a job of one image that has finished has its result with it."""

log = logging.getLogger(__name__)


class JobEvents:
    """Publish from a thread of its own, so that callers never wait for Redis; a lost event is not repeated.

    Args:
        redis_url: the server.
        key: signs notices; without a key none are published.
    """

    def __init__(self, redis_url: str, key: bytes = b"") -> None:
        self._key = key
        self._url = redis_clients.redis_py_url(redis_url)
        self._lock = threading.Lock()
        self._pending = threading.Event()
        self._changes: dict[str, job_notice.JobNotice | None] = {}
        self._thread: threading.Thread | None = None

    def publish(self, job_ids: Iterable[str], notices: Iterable[job_notice.JobNotice] = ()) -> None:
        """Publish that these jobs have changed; returns at once, and never fails."""
        with self._lock:
            self._changes.update(dict.fromkeys(job_ids))
            self._changes.update((notice.job_id, notice) for notice in notices)
            if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
                self._thread = threading.Thread(target=self._publish_loop, name="job events", daemon=True)
                self._thread.start()
        self._pending.set()

    def _publish_loop(self) -> None:
        connection = redis_clients.create(self._url)
        while True:
            self._pending.wait()
            self._pending.clear()
            with self._lock:
                changes, self._changes = self._changes, {}
            message = " ".join(changes)
            notices = [notice for notice in changes.values() if notice is not None]
            if notices and self._key:
                message += f"\n{job_notice.encode(notices, self._key)}"
            try:
                connection.publish(CHANNEL, message)
            except redis.RedisError as error:
                log.debug("job events are not published: %s", error)
                time.sleep(redis_clients.BACKOFF_SECONDS)

    @contextlib.asynccontextmanager
    async def subscribe(self, key: bytes = b"") -> AsyncIterator[AsyncIterator[Changes]]:
        """Subscribe to changed jobs; notices that are not signed with the key are left out.

        Raises:
            redis.RedisError: Redis does not answer, or not any more.
        """
        client = aioredis.Redis.from_url(
            self._url, socket_connect_timeout=redis_clients.TIMEOUT_SECONDS, health_check_interval=10
        )
        async with client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(CHANNEL)
            yield _iter_messages(pubsub, key)


async def _iter_messages(pubsub: aioredis.client.PubSub, key: bytes) -> AsyncIterator[Changes]:
    while True:
        message = await pubsub.get_message(timeout=5.0)
        if message is not None:
            # Anyone with access to Redis can publish here. Job ids are ASCII: nothing else is an event.
            ids, _, signed = message["data"].decode("ascii", errors="ignore").partition("\n")
            notices = {notice.job_id: notice for notice in job_notice.decode(signed, key)} if signed else {}
            yield {**dict.fromkeys(ids.split()), **notices}
        await asyncio.sleep(0)
