"""Thumbnails and previews: made by sandboxed child processes (invariant 5), and kept beside the images.

A child makes one rendition only, so that a hostile image can neither harm nor read another one. A few run at a time.
"""

import contextlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from api.services import image_bytes, thumbnail_child, thumbnail_client
from core import errors, settings
from core.concurrency import cpu_count
from core.sandbox import child_command
from core.storage import base, renditions

MIN_CONCURRENT = 2
RESERVED_THREADS = 2  # view threads that thumbnails leave to other requests
RENDER_VERSION = "2"  # raise it when renditions change: it is part of their names and ETags
TRIM_INTERVAL_SHARE = 0.1  # of the limit: the new bytes after which stored renditions are trimmed
JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
THUMBNAIL, PREVIEW = thumbnail_child.THUMBNAIL, thumbnail_child.PREVIEW

log = logging.getLogger(__name__)
ReadSource = Callable[[], bytes]


class ThumbnailerBusy(errors.ServiceUnavailable):
    """Too many thumbnails are being made."""

    code = "too_busy"


class Thumbnailer:
    """Return renditions from the store, or make and store them; thread-safe."""

    def __init__(self, config: settings.Settings, store: base.BlobStore) -> None:
        self._settings = config
        self._store = store
        self._process = thumbnail_client.ThumbnailProcess()
        self._queue_slots = threading.BoundedSemaphore(max(1, config.api_threads - RESERVED_THREADS))
        self._run_slots = threading.BoundedSemaphore(max(MIN_CONCURRENT, cpu_count.available_cpus()))
        self._trim_lock = threading.Lock()
        self._untrimmed_bytes = config.thumbnail_cache_bytes  # so that the first one is followed by a check

    def get(self, sha256: str, size: thumbnail_child.Size, read_source: ReadSource | None = None) -> bytes:
        """Return a rendition of an image in the blob store, or of one that `read_source` reads, as a JPEG.

        Raises:
            errors.ImageGone: its bytes do not exist any more, or its source has other bytes by now.
            errors.NoThumbnail: it cannot be decoded within the limits of one image.
            errors.ServiceUnavailable: the store or the source does not answer, or too many thumbnails are being made.
        """
        if not self._settings.thumbnail_cache_bytes:
            return self._render(sha256, size, read_source)
        kind = f"{size.name}-{RENDER_VERSION}"
        data = self._store.renditions.get(sha256, kind)
        # After a power failure a file may be empty or cut off, since they are not flushed to disk.
        if data is None or not (data.startswith(JPEG_START) and data.endswith(JPEG_END)):
            data = self._render(sha256, size, read_source)
            self._store_rendition(sha256, kind, data)
        return data

    def _render(self, sha256: str, size: thumbnail_child.Size, read_source: ReadSource | None) -> bytes:
        limits = thumbnail_child.Limits(
            size, self._settings.max_pixels, self._settings.decode_memory_bytes, self._settings.decode_seconds
        )
        with (
            self._acquire_slot(),
            self._open_image(sha256, read_source) as image_file,
            # A file in memory, of limited size: through a pipe a compromised child could send without end.
            os.fdopen(os.memfd_create("thumbnail"), "r+b", 0) as output_file,
        ):
            code = self._process.render(image_file.fileno(), output_file.fileno(), limits)
            output = os.pread(output_file.fileno(), size.max_bytes, 0)
        if code == 0 and output.startswith(JPEG_START):
            return output
        if code == thumbnail_child.EXIT_NO_THUMBNAIL:
            raise errors.NoThumbnail(output.decode(errors="replace"))
        if code < 0:
            raise errors.NoThumbnail(
                "This image has no thumbnail: decoding it crashes, or takes too long; submit another file."
            )
        raise errors.ServiceUnavailable(f"A thumbnail process ended with code {code}.")

    def _store_rendition(self, sha256: str, kind: str, data: bytes) -> None:
        """Store a rendition, and remove the oldest when there are too many; a failure is only logged."""
        try:
            self._store.renditions.put(sha256, kind, data)
            with self._trim_lock:
                self._untrimmed_bytes += len(data)
                is_due = self._untrimmed_bytes > TRIM_INTERVAL_SHARE * self._settings.thumbnail_cache_bytes
                self._untrimmed_bytes = 0 if is_due else self._untrimmed_bytes
            if is_due:
                renditions.trim(self._store.renditions, self._settings.thumbnail_cache_bytes)
        except errors.BlobsUnavailable as error:
            log.warning("a thumbnail was not stored: %s", error.detail)

    @contextlib.contextmanager
    def _acquire_slot(self) -> Iterator[None]:
        if not self._queue_slots.acquire(blocking=False):
            raise ThumbnailerBusy
        try:
            with self._run_slots:
                yield
        finally:
            self._queue_slots.release()

    def _open_image(self, sha256: str, read_source: ReadSource | None) -> io.FileIO:
        """Open the file of an image, or one in memory where it has no local file."""
        path = self._store.path(sha256) if read_source is None else None
        if path is not None:
            return _open_file(path)
        return child_command.memory_file(image_bytes.read(self._store, sha256, read_source))


def _open_file(path: Path) -> io.FileIO:
    try:
        return io.FileIO(path)
    except FileNotFoundError:
        raise errors.ImageGone from None
    except OSError as error:
        raise errors.BlobsUnavailable(f"An image cannot be read: {error.strerror}.") from error
