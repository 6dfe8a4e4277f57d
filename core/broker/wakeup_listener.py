"""Wake-up listener: run an action whenever a wake-up arrives, in a thread of its own.

Celery takes milliseconds from a message to its task. The listener takes wake-ups from a list of its own; Celery's task
remains, for programs that send it, and for when no listener is there.
"""

import logging
import math
import threading
import time
from collections.abc import Callable

import redis

from core.broker import redis_clients, wakeup

BLOCK_SECONDS = 5.0  # for so long one call waits for a wake-up
ANNOUNCE_SECONDS = 2.0  # between two notes that a listener is there; their TTL covers this, a call and a run

log = logging.getLogger(__name__)


class WakeupListener:
    """Wait for wake-ups; one of the waiting listeners receives each."""

    def __init__(self, redis_url: str, on_wakeup: Callable[[], None]) -> None:
        self._redis_url = redis_url
        self._on_wakeup = on_wakeup

    def start(self, stop: threading.Event) -> None:
        """Listen in a thread until the worker stops."""
        threading.Thread(target=self._loop, args=(stop,), name="wake-ups", daemon=True).start()

    def _loop(self, stop: threading.Event) -> None:
        client = redis_clients.create(self._redis_url, block_seconds=BLOCK_SECONDS)
        announced_at = -math.inf
        while not stop.is_set():
            try:
                if time.monotonic() - announced_at >= ANNOUNCE_SECONDS:
                    client.set(wakeup.LISTENER_KEY, 1, ex=wakeup.LISTENER_TTL_SECONDS)
                    announced_at = time.monotonic()
                message = client.blpop([wakeup.LIST_KEY], timeout=BLOCK_SECONDS)
            except redis.RedisError as error:
                log.debug("wake-ups are not received: %s", error)
                announced_at = -math.inf  # Redis may have lost it
                stop.wait(redis_clients.BACKOFF_SECONDS)
                continue
            if message is not None and not stop.is_set():
                self._on_wakeup()
