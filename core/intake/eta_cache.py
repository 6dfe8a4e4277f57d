"""Throughput and queue position, cached for two seconds per process."""

import threading
import time

from core.db import database
from core.db.queries import eta

MAX_AGE_SECONDS = 2.0


class EtaCache:
    """The latest estimate."""

    def __init__(self, db: database.Database) -> None:
        self._db = db
        self._refresh_lock = threading.Lock()
        self._refreshed_at = float("-inf")
        self.latest: eta.QueueEstimate | None = None
        """The last estimate, however old."""

    def get(self) -> eta.QueueEstimate | None:
        """Return the latest estimate; refresh it if it is old and no other thread does: most calls cost nothing."""
        if time.monotonic() - self._refreshed_at > MAX_AGE_SECONDS and self._refresh_lock.acquire(blocking=False):
            try:
                self.latest = self._db.read(eta.estimate_queue)
                self._refreshed_at = time.monotonic()
            finally:
                self._refresh_lock.release()
        return self.latest
