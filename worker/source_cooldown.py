"""Cooldown of sources that failed, so that images of other sources do not wait for them."""

import threading
import time
from collections.abc import Sequence

COOLDOWN_SECONDS = 30.0


class SourceCooldown:
    """Which sources a worker claims images from at the moment."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._retry_at: dict[str, float] = {}
        """By the monotonic clock."""

    def suspend(self, source: str) -> None:
        """Skip a source that failed for a while."""
        with self._lock:
            self._retry_at[source] = time.monotonic() + COOLDOWN_SECONDS

    def available(self) -> list[str]:
        """Return the sources that are not cooling down."""
        now = time.monotonic()
        with self._lock:
            return [source for source in self._sources if now >= self._retry_at.get(source, 0.0)]
