"""Progress of the pipeline, as the heartbeat reads it: stalls, idle time and finished images."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class RunMonitor:
    """When the current run last made progress, and when the last run ended, by the monotonic clock."""

    def __init__(self, last_decode_at: Callable[[], float]) -> None:
        self._last_decode_at = last_decode_at
        """Returns when an image was last decoded."""
        self._lock = threading.Lock()
        self._progress_at: float | None = None
        self.is_classifying = False
        """Whether the network runs: only then may the images be the cause of a stall."""
        self._ended_at = 0.0

    def record_progress(self) -> None:
        """Note that a run is under way, and has just begun another step."""
        with self._lock:
            self._progress_at = time.monotonic()

    @contextlib.contextmanager
    def classifying(self) -> Iterator[None]:
        """Note that the network runs during the block."""
        self.is_classifying = True
        try:
            yield
        finally:
            self.is_classifying = False

    def record_end(self) -> None:
        """Note that the run has ended."""
        with self._lock:
            self._progress_at, self._ended_at = None, time.monotonic()

    def is_stalled(self, seconds: float) -> bool:
        """Return whether a run is under way that has made no progress for so long, not even one decoded image."""
        with self._lock:
            progress_at = self._progress_at
        return progress_at is not None and time.monotonic() - max(progress_at, self._last_decode_at()) > seconds

    def seconds_since_end(self) -> float:
        """Return how long ago the last run ended."""
        with self._lock:
            return time.monotonic() - self._ended_at


class FinishedCounter:
    """The number of images finished since the last heartbeat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, count: int) -> None:
        """Count images as finished."""
        with self._lock:
            self._count += count

    def take(self) -> int:
        """Return the count, and reset it to zero."""
        with self._lock:
            count, self._count = self._count, 0
        return count
