"""The outlook: how fast pictures are done and how many go before, looked up every few seconds for everybody."""

import threading
import time

from jobs import database
from jobs.store import forecast

FRESH_SECONDS = 2.0


class Outlook:
    """The latest forecast."""

    def __init__(self, db: database.Database) -> None:
        self._db = db
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self.latest: forecast.Forecast | None = None
        """As it was last looked up, however long ago."""

    def now(self) -> forecast.Forecast | None:
        """The latest, looked up again if it is old and nobody else is at it: most callers pay nothing."""
        if time.monotonic() - self._looked_at > FRESH_SECONDS and self._looking.acquire(blocking=False):
            try:
                self.latest = self._db.read(forecast.look)
                self._looked_at = time.monotonic()
            finally:
                self._looking.release()
        return self.latest
