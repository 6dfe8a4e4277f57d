"""Request metrics: counts and durations of responses, added to the counters in the database every few seconds."""

import logging
import threading
from bisect import bisect_left
from collections import defaultdict

from core import errors
from core.concurrency import periodic
from core.db import database
from core.db.queries import counters

FLUSH_SECONDS = 5.0  # a killed process loses the counts since its last flush
BUCKET_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))
KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NO_ROUTE = "none"

log = logging.getLogger(__name__)


class RequestMetrics:
    """The counts since the last flush."""

    def __init__(self, db: database.Database) -> None:
        self._db = db
        self._counts_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._counts: defaultdict[counters.CounterKey, float] = defaultdict(float)
        self._stop = threading.Event()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response, and the duration of its view."""
        method = method if method in KNOWN_METHODS else "OTHER"
        bound = BUCKET_BOUNDS[bisect_left(BUCKET_BOUNDS, seconds)]
        with self._counts_lock:
            self._counts["http", method, route, str(status)] += 1
            self._counts["http_bucket", method, route, f"{bound:g}"] += 1
            self._counts["http_seconds", method, route] += seconds

    def flush(self) -> None:
        """Add the counts to those in the database; if it is unavailable, keep them for the next flush."""
        with self._flush_lock:
            with self._counts_lock:
                pending, self._counts = self._counts, defaultdict(float)
            try:
                if pending:
                    self._db.write(counters.increment, pending)
            except errors.ServiceUnavailable as error:
                log.warning("%s", error.detail)
                with self._counts_lock:
                    for key, count in pending.items():
                        self._counts[key] += count

    def start(self) -> None:
        """Flush periodically, until closed."""
        periodic.start("request-metrics", self.flush, FLUSH_SECONDS, stop=self._stop)

    def close(self) -> None:
        """Flush for the last time, and stop."""
        self._stop.set()
        self.flush()
