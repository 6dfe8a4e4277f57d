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

    It raises errors.SourceUnavailable, for which the worker suspends the source and hands the image back, only if the
    source itself cannot be listed. If it can, the image is read once more; if that fails too, and the source can still
    be listed, the image fails as `blob_missing`. It would else stop all images of its source, claim after claim.
    """
    read = sources.reader(claim.source, claim.location, claim.bytes)
    return None if read is None else functools.partial(_read, sources, read)


def _read(sources: catalog.SourceCatalog, read: decode_batch.Reader) -> bytes:
    try:
        return read()
    except errors.SourceUnavailable as error:
        sources.check(error.source)
    time.sleep(PAUSE_SECONDS)
    try:
        return read()
    except errors.SourceUnavailable as error:
        sources.check(error.source)
        log.warning("an image of the source %s fails, because it cannot be read: %s", error.source, error.reason)
        raise errors.BlobMissing(
            f"The source {error.source} can be listed, but this image of it cannot be read; check its permissions, "
            "and whether it is damaged or archived."
        ) from error
