"""Read one image of a source: one that cannot be read fails by itself, and does not stop its source."""

import functools
import logging

from core import errors
from core.sources import base
from core.storage import blob_reader

log = logging.getLogger(__name__)


def read(source: base.Source, path: str, max_bytes: int) -> bytes:
    """Return the bytes of an image, as `Source.read`.

    While a source is unavailable, its images wait. An image that is denied, or on a damaged part of a disk, would so
    stop all others: if the source can be listed, the image is read once more, and then fails.

    Raises:
        errors.BlobMissing: the image is not there, or cannot be read although its source can be listed.
        errors.SourceUnavailable: the source does not answer, or cannot be listed.
    """

    def missing(error: errors.SourceReadError) -> errors.BlobMissing:
        log.warning("an image of the source %s fails, because it cannot be read: %s", source.name, error.reason)
        return errors.BlobMissing(
            f"The source {source.name} can be listed, but this image of it cannot be read; check its permissions, and "
            "whether it is damaged or archived."
        )

    read_once = functools.partial(source.read, path, max_bytes)
    return blob_reader.read_or_fail(read_once, source.check, errors.SourceReadError, missing)
