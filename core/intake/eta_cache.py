"""Throughput and queue position, cached for two seconds per process."""

import threading
import time

from core.db import database
from core.db.queries import eta

MAX_AGE_SECONDS = 2.0


class EtaCache:
    """Cache the estimate of the queue; thread-safe."""

    def __init__(self, db: database.Database) -> None:
        self._db = db
        self._refresh_lock = threading.Lock()
        self._refreshed_at = float("-inf")
        self.latest: eta.QueueEstimate | None = None
        """The last estimate, however old; None before the first."""

    def get(self) -> eta.QueueEstimate | None:
        """Return the estimate; if it is old, refresh it first, unless another thread does so at the moment."""
        if time.monotonic() - self._refreshed_at > MAX_AGE_SECONDS and self._refresh_lock.acquire(blocking=False):
            try:
                self.latest = self._db.read(eta.estimate_queue)
                self._refreshed_at = time.monotonic()
            finally:
                self._refresh_lock.release()
        return self.latest
