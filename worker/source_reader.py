"""Readers of images in sources: they distinguish an image that cannot be read from a source that is down."""

import functools
import logging
import time

from core import errors
from core.db.queries import claims as claim_queries
from core.sources import catalog
from worker.decoding import decode_batch

PAUSE_SECONDS = 0.1  # a source may be about to recover, or another program to close the file

log = logging.getLogger(__name__)


def reader(sources: catalog.SourceCatalog, claim: claim_queries.Claim) -> decode_batch.Reader | None:
    """Return a function that reads an image from its source; None for an image that has no source.

    For errors.SourceUnavailable the worker suspends the source and hands the image back. An image that is denied, or on
    a damaged part of a disk, would so stop all images of its source, claim after claim: if the source can be listed,
    the image is read once more, and if that fails likewise, it fails as `blob_missing`.
    """
    read = sources.reader(claim.source, claim.location, claim.bytes)
    return None if read is None else functools.partial(_read, sources, read)


def _read(sources: catalog.SourceCatalog, read: decode_batch.Reader) -> bytes:
    try:
        return read()
    except errors.SourceReadError as error:
        sources.check(error.source)
    time.sleep(PAUSE_SECONDS)
    try:
        return read()
    except errors.SourceReadError as error:
        sources.check(error.source)
        log.warning("an image of the source %s fails, because it cannot be read: %s", error.source, error.reason)
        raise errors.BlobMissing(
            f"The source {error.source} can be listed, but this image of it cannot be read; check its permissions, "
            "and whether it is damaged or archived."
        ) from error
