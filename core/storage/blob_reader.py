"""Read one image whose read fails: it fails by itself, and does not stop the other images of its batch."""

import functools
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from core import errors
from core.storage import base

RETRY_SECONDS = 0.1  # a disk of another machine may be about to recover, or another program to close the file
E = TypeVar("E", bound=errors.ServiceUnavailable)

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

    def missing(error: errors.BlobsUnavailable) -> errors.BlobMissing:
        log.warning("the image %s fails, because its file in the blob store cannot be read: %s", sha256, error)
        return errors.BlobMissing(
            "The blob store works, but the file of this image in it cannot be read; check its disk and permissions, "
            "then submit the image again."
        )

    return read_or_fail(functools.partial(store.get, sha256), store.check, errors.BlobsUnavailable, missing)


def read_or_fail(
    read_once: Callable[[], bytes],
    check: Callable[[], None],
    failure: type[E],
    missing: Callable[[E], errors.BlobMissing],
) -> bytes:
    """Return the bytes of an image: read it once more after a failure, if `check` finds that its place is usable.

    Args:
        read_once: reads it.
        check: raises an error if nothing can be read there.
        failure: the error of `read_once` that may concern this image only.
        missing: returns the error of an image that cannot be read.
    """
    try:
        return read_once()
    except failure:
        check()
    time.sleep(RETRY_SECONDS)
    try:
        return read_once()
    except failure as error:
        check()
        raise missing(error) from error
