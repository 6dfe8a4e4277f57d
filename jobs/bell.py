"""The bell: a Celery message that says only "there is work". Nothing is lost if it is."""

import logging
import threading
import time
from typing import Any

import celery

from jobs import broker, notices, tracing

TASK = "sortbelt.drain"
QUEUE = "sortbelt"
COALESCE_SECONDS = 0.005  # rings so close together are one
BREAK_SECONDS = 2.0  # how long the bell is left alone after Redis did not answer
EXPIRES_SECONDS = 30
FRESH_SECONDS = 10.0

log = logging.getLogger(__name__)


def celery_app(redis_url: str) -> celery.Celery:
    """The Celery app of both sides, as `docs/decisions/0002` argues for each line."""
    broker.install()
    app = celery.Celery("sortbelt", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "health_check_interval": 10,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
            "socket_timeout": 2.0,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "visibility_timeout": 300,
        },
        worker_cancel_long_running_tasks_on_connection_loss=True,  # of late-acknowledged ones; unsaid, it warns
        task_acks_late=False,  # the row is the job: a lost message costs nothing, a repeated one neither
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
    )
    return app


class Bell:
    """Rings from a thread of its own, so that no request ever waits for Redis."""

    def __init__(self, redis_url: str) -> None:
        self._app = celery_app(redis_url)
        # kombu would try to connect for seconds before it says that nobody answers.
        self._app.conf.broker_transport_options |= {"max_retries": 0, "interval_start": 0}
        self._redis_url = redis_url
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.error: str | None = None
        """Why the last ring went unheard; None if it was heard."""

    @tracing.traced("bell")
    def ring(self) -> None:
        """Say that there is work; returns at once, and never fails."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a fork leaves threads behind
                self._thread = threading.Thread(target=self._ringer, name="bell", daemon=True)
                self._thread.start()
        self._wanted.set()

    def _ringer(self) -> None:
        client = notices.client(self._redis_url)
        rang_at = float("-inf")
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                # A fresh ring that nobody has taken up yet says all that another would; to look is cheaper than to
                # ring. What lies there longer may have expired: then nobody would come for it.
                if time.monotonic() - rang_at > FRESH_SECONDS or not client.llen(QUEUE):
                    rang_at = time.monotonic()
                    self._app.send_task(TASK, expires=EXPIRES_SECONDS, retry=False, ignore_result=True)
            except Exception as error:  # noqa: BLE001 (kombu lets through whatever Redis and sockets raise)
                self._unheard(error)
            else:
                self.error = None
                time.sleep(COALESCE_SECONDS)

    def _unheard(self, error: Any) -> None:
        if self.error is None:
            log.warning("The bell is not heard; workers look for work by themselves: %s", error)
        self.error = str(error) or type(error).__name__
        time.sleep(BREAK_SECONDS)
