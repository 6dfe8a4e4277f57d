"""A batch of images to decode, shared by the requests that it is split into."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from core import errors
from core.sandbox import child_command
from core.storage import base, blob_reader
from model.preprocessing import decode

Reader = Callable[[], bytes]
"""Returns the bytes of an image that is not in the blob store; raises the errors of `BlobStore.get`."""


@dataclass(frozen=True)
class DecodeOutcome:
    """The outcome of decoding one image: pixels in its row of the batch, or an error; and the milliseconds it took."""

    error: errors.ImageFailed | None
    ms: float
    cpu_ms: float = 0.0


DecodeResult = tuple[npt.NDArray[np.uint8], list[DecodeOutcome | None]]
"""Pixels, uint8 [N, height, width, 3], and an outcome for each image.

Rows of failed images are zero; the outcome of an image that was not started is None."""


@dataclass
class DecodeBatch:
    """State shared by the chunks of one batch; each chunk writes rows of its own."""

    store: base.BlobStore
    preprocess: decode.Preprocess
    sha256s: Sequence[str]
    readers: Sequence[Reader | None]
    stop: threading.Event
    """Once set, no further image is started."""
    seconds: float | None
    """How long after its first image is started another may be; None for no limit."""
    on_start: Callable[[], None]
    """Called when its first image is about to be decoded."""
    is_urgent: bool
    """Whether it goes before other batches, and the decoder that is kept for such may decode it."""
    future: futures.Future[DecodeResult] = field(default_factory=futures.Future)
    error: BaseException | None = None
    open_chunks: int = 0
    suspects: set[int] = field(default_factory=set)
    """Rows that a child has died of, or timed out on, once: they are retried alone."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.pixels = np.zeros((len(self.sha256s), self.preprocess.height, self.preprocess.width, 3), np.uint8)
        self.outcomes: list[DecodeOutcome | None] = [None] * len(self.sha256s)
        self.paths = [self._path(row) for row in range(len(self.sha256s))]
        """The file that a child reads, for each row; None if this process reads the image."""
        self._started_at: float | None = None

    @property
    def is_stopped(self) -> bool:
        """Return whether no further image may be started."""
        return self.error is not None or self.stop.is_set()

    def start(self) -> None:
        """Note that the first of its images is about to be decoded."""
        if self._started_at is None:
            self._started_at = time.monotonic()
            self.on_start()

    def remaining_seconds(self) -> float | None:
        """Return how much of its time is left; None for no limit."""
        if self.seconds is None or self._started_at is None:
            return self.seconds
        return max(0.0, self._started_at + self.seconds - time.monotonic())

    def open_image(self, row: int) -> int:
        """Return a descriptor from which an image can be read; the caller closes it.

        Raises:
            errors.BlobMissing: the image has no bytes any more.
            errors.ServiceUnavailable: the store or the source does not answer.
        """
        path = self.paths[row]
        if path is not None:
            try:
                return base.retry_missing(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                raise errors.BlobMissing from None
            except OSError as error:
                self.read_here(row, error.strerror or "")
        reader = self.readers[row]
        data = blob_reader.read(self.store, self.sha256s[row]) if reader is None else reader()
        with child_command.memory_file(data) as file:
            return os.dup(file.fileno())

    def read_here(self, row: int, reason: str) -> None:
        """Let this process read an image, because its file could not be opened, or a child could not read it.

        Raises:
            errors.BlobsUnavailable: a child could not read what this process had read.
        """
        if self.paths[row] is None:
            raise errors.BlobsUnavailable(f"An image cannot be read: {reason}.")
        self.paths[row] = None

    def finish_chunk(self, error: BaseException | None = None) -> None:
        """Count a chunk as done or failed; after the last one, resolve the future."""
        with self.lock:
            self.error = self.error or error
            self.open_chunks -= 1
            is_last = self.open_chunks <= 0
        if is_last and self.error is not None:
            self.future.set_exception(self.error)
        elif is_last:
            self.future.set_result((self.pixels, self.outcomes))

    def _path(self, row: int) -> str | None:
        path = self.store.path(self.sha256s[row]) if self.readers[row] is None else None
        return None if path is None else str(path)
