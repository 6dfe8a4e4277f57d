"""Adaptive batch size: as many images as get through the slowest stage of the pipeline in a target time.

An image waits until the batches before it are done, so no batch should take long; but large batches are cheaper per
image, since the overhead of a batch is shared by more images (decision 23).
"""

import collections
import statistics
import threading
from typing import Literal

TARGET_SECONDS = 0.25  # for a batch in the slowest stage
LEASE_TO_BATCH_RATIO = 8  # a lease lasts at least so many times the target
INITIAL_SIZE = 64
MIN_SIZE, MAX_SIZE = 16, 1024  # in smaller batches an image costs a CPU a tenth more
SIZE_MULTIPLE = 8  # few distinct sizes: a network prepares its weights anew for each new shape
MAX_BATCH_BYTES = 96_000_000  # of pixels; up to three batches are in memory, with a copy each
WINDOW = 5  # batches in the median: two slow outliers change nothing
MAX_GROWTH_FACTOR = 2


def limit(image_bytes: int, device_capacity: int) -> int:
    """Return the largest batch of decoded images of this size, on a device with this capacity in images."""
    return max(1, min(MAX_SIZE, MAX_BATCH_BYTES // image_bytes, device_capacity))


class BatchSizers:
    """The batch size of each model on this worker: fixed by the settings, or adaptive (`auto`)."""

    def __init__(self, batch_size: int | Literal["auto"], lease_seconds: float) -> None:
        self._fixed_size = None if batch_size == "auto" else batch_size
        target_seconds = min(TARGET_SECONDS, lease_seconds / LEASE_TO_BATCH_RATIO)
        self._lock = threading.Lock()
        self._by_model = collections.defaultdict[str, AdaptiveBatchSizer](lambda: AdaptiveBatchSizer(target_seconds))

    def size(self, model: str) -> int:
        """Return how many images the next batch of a model may have."""
        if self._fixed_size is not None:
            return self._fixed_size
        with self._lock:
            return self._by_model[model].size

    def observe(self, model: str, images: int, seconds: float, max_size: int) -> None:
        """Adapt the size for a model to a processed batch; see `AdaptiveBatchSizer.observe`."""
        if self._fixed_size is None:
            with self._lock:
                self._by_model[model].observe(images, seconds, max_size)


class AdaptiveBatchSizer:
    """Adapt the batch size of one model."""

    def __init__(self, target_seconds: float = TARGET_SECONDS) -> None:
        self._target_seconds = target_seconds
        self._recent: collections.deque[float] = collections.deque(maxlen=WINDOW)
        """Seconds per image of recent batches."""
        self.size = INITIAL_SIZE
        """How many images the next batch may have."""

    def observe(self, images: int, seconds: float, max_size: int = MAX_SIZE) -> None:
        """Adapt the size to a batch of so many images, whose slowest stage took so long; it is at most `max_size` then.

        A small batch that was quick is ignored: its time is mostly overhead.
        """
        if MAX_GROWTH_FACTOR * images >= self.size or seconds > self._target_seconds:
            self._recent.append(seconds / images)
            fitting_size = self._target_seconds / max(statistics.median(self._recent), 1e-9)
            next_size = max(
                self.size // MAX_GROWTH_FACTOR,
                min(round(fitting_size / SIZE_MULTIPLE) * SIZE_MULTIPLE, self.size * MAX_GROWTH_FACTOR),
            )
            self.size = max(next_size, MIN_SIZE)
        self.size = min(self.size, max_size)
