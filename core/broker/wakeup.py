"""Wake-up message: it makes a worker poll. Losing it costs one poll interval at most.

It is an element of a list that listeners wait for; without any listener, an empty Celery task.
"""

import logging
import threading
import time
from typing import Any

import redis

from core.broker import celery_app, redis_clients
from core.tracing import tracer

COALESCE_SECONDS = 0.005  # requests so close together are one message
LIST_KEY = "sortbelt.wakeups"
LISTENER_KEY = "sortbelt.wakeup-listener"
"""Exists while a worker listens."""
LISTENER_TTL_SECONDS = 15  # more than a listener blocks, a run takes, and the time between two notes
MESSAGE_TTL_SECONDS = 30
RESEND_AFTER_SECONDS = 10.0

log = logging.getLogger(__name__)


class WakeupSender:
    """Send from a thread of its own, so that requests never wait for Redis."""

    def __init__(self, redis_url: str) -> None:
        self._app = celery_app.create_celery_app(redis_url)
        # kombu would retry the connection for seconds before it raises.
        self._app.conf.broker_transport_options |= {"max_retries": 0, "interval_start": 0}
        self._redis_url = redis_url
        self._requested = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.last_error: str | None = None
        """Why the last message could not be sent; None if it was sent."""

    @tracer.traced("wakeup.send")
    def send(self) -> None:
        """Request a wake-up; returns at once, and never fails."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
                self._thread = threading.Thread(target=self._send_loop, name="wakeup", daemon=True)
                self._thread.start()
        self._requested.set()

    def _send_loop(self) -> None:
        client = redis_clients.create(self._redis_url)
        sent_at = float("-inf")
        while True:
            self._requested.wait()
            self._requested.clear()
            try:
                if not _push(client):
                    sent_at = self._send_task(client, sent_at)
            except Exception as error:  # noqa: BLE001 (kombu does not translate the errors of Redis and sockets)
                self._report_unreachable(error)
            else:
                self.last_error = None
                time.sleep(COALESCE_SECONDS)

    def _send_task(self, client: redis.Redis, sent_at: float) -> float:
        """Send Celery's message, unless the last one is queued; return when the last one was sent."""
        # A recent message that no worker has received says all that another would, and LLEN is cheaper than a message.
        # An older one may have expired.
        if time.monotonic() - sent_at <= RESEND_AFTER_SECONDS and client.llen(celery_app.QUEUE_NAME):
            return sent_at
        sent_at = time.monotonic()
        self._app.send_task(celery_app.TASK_NAME, expires=MESSAGE_TTL_SECONDS, retry=False, ignore_result=True)
        return sent_at

    def _report_unreachable(self, error: Any) -> None:
        if self.last_error is None:
            log.warning("Wake-up messages cannot be sent; workers poll for work: %s", error)
        self.last_error = str(error) or type(error).__name__
        time.sleep(redis_clients.BACKOFF_SECONDS)


def _push(client: redis.Redis) -> bool:
    """Leave one wake-up, however many there were, for a listener; return whether there is any."""
    pipeline = client.pipeline(transaction=False)
    pipeline.lpush(LIST_KEY, 1)
    pipeline.ltrim(LIST_KEY, 0, 0)
    pipeline.exists(LISTENER_KEY)
    return bool(pipeline.execute()[-1])
