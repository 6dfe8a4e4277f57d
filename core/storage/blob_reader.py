"""Read one blob whose file fails: it fails by itself, and does not stop the other images of its batch."""

import logging
import time

from core import errors
from core.storage import base

RETRY_SECONDS = 0.1  # a file system of another machine may be about to recover

log = logging.getLogger(__name__)


def read(store: base.BlobStore, sha256: str) -> bytes:
    """Return the bytes of a blob, as `BlobStore.get`; one that cannot be read is missing if the store is usable.

    While a store is unavailable, its images wait. A file that is denied, or on a damaged part of a disk, would so stop
    all batches that its image is in. Only for stores that have files: what a bucket answers for one object may hold for
    all of them.

    Raises:
        errors.BlobMissing: the blob does not exist, or cannot be read although its store is usable.
        errors.BlobsUnavailable: the store does not answer.
    """
    if store.path(sha256) is None:
        return store.get(sha256)
    try:
        return store.get(sha256)
    except errors.BlobsUnavailable:
        store.check()
    time.sleep(RETRY_SECONDS)
    try:
        return store.get(sha256)
    except errors.BlobsUnavailable as error:
        store.check()
        log.warning("the image %s fails, because its file in the blob store cannot be read: %s", sha256, error)
        raise errors.BlobMissing(
            "The blob store works, but the file of this image in it cannot be read; check its disk and permissions, "
            "then submit the image again."
        ) from error
