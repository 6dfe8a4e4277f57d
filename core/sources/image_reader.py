"""Read one image of a source: one that cannot be read fails by itself, and does not stop its source."""

import collections
import functools
import logging
import time

from core import errors
from core.concurrency import time_limit
from core.sources import base

RETRY_SECONDS = 0.1  # a source may be about to recover, or another program to close the file
READ_SECONDS = 45.0  # shorter than SORTBELT_WATCHDOG_SECONDS, after which the worker would end itself
MAX_HUNG_READS = 8  # of one source

_time_limits: collections.defaultdict[str, time_limit.TimeLimit] = collections.defaultdict(
    lambda: time_limit.TimeLimit(READ_SECONDS, MAX_HUNG_READS)
)
"""By the name of the source: the disk of another machine may hang, and answer hours later or not at all."""
log = logging.getLogger(__name__)


def read(source: base.Source, path: str, max_bytes: int) -> bytes:
    """Return the bytes of an image, as `Source.read`.

    While a source is unavailable, its images wait. An image that is denied, or on a damaged part of a disk, would so
    stop all others: if the source can be listed, the image is read once more, and then fails.

    Raises:
        errors.BlobMissing: the image is not there, or cannot be read although its source can be listed.
        errors.SourceUnavailable: the source does not answer within `READ_SECONDS`, or cannot be listed.
    """
    try:
        return _time_limits[source.name].call(functools.partial(_read, source, path, max_bytes))
    except TimeoutError:
        raise errors.SourceUnavailable(source.name, f"a read has not ended after {READ_SECONDS:g} s") from None


def _read(source: base.Source, path: str, max_bytes: int) -> bytes:
    try:
        return source.read(path, max_bytes)
    except errors.SourceReadError:
        source.check()
    time.sleep(RETRY_SECONDS)
    try:
        return source.read(path, max_bytes)
    except errors.SourceReadError as error:
        source.check()
        log.warning("an image of the source %s fails, because it cannot be read: %s", source.name, error.reason)
        raise errors.BlobMissing(
            f"The source {source.name} can be listed, but this image of it cannot be read; check its permissions, and "
            "whether it is damaged or archived."
        ) from error
