"""Blob store: image bytes under their SHA-256, in a local folder or in an S3 bucket."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from core import errors
from core.storage import renditions

MARK_NAME = "installation"  # the name of the file with the id of the database
ORPHAN_TTL_SECONDS = 3600  # longer than any writer takes from its first blob to the row that refers to it
ASIDE_SECONDS = 0.05  # after this time, a removal that finds its file in use again has put it back
T = TypeVar("T")


@contextlib.contextmanager
def translate_os_errors(failure: str, remedy: str = "Check the disk of SORTBELT_BLOB_STORE.") -> Iterator[None]:
    """Turn the file system's errors into one of the store: the failure, its reason, and the remedy.

    Raises:
        errors.BlobsUnavailable: the file system raised an error.
    """
    try:
        yield
    except OSError as error:
        raise errors.BlobsUnavailable(f"{failure}: {error.strerror}. {remedy}") from error


def retry_missing(read: Callable[[], T]) -> T:
    """Read a file of a store; if it does not exist, once more a moment later."""
    try:
        return read()
    except FileNotFoundError:
        time.sleep(ASIDE_SECONDS)
        return read()


def remove_each(items: Iterable[T], remove: Callable[[T], None], failure: str) -> None:
    """Remove items one by one, also those after one that cannot be removed.

    Raises:
        errors.BlobsUnavailable: for the first one that cannot be removed, when all others are.
    """
    first_error: errors.BlobsUnavailable | None = None
    for item in items:
        try:
            with translate_os_errors(failure):
                remove(item)
        except errors.BlobsUnavailable as error:
            first_error = first_error or error
    if first_error is not None:
        raise first_error


class BlobStore(Protocol):
    """A store of immutable bytes, each under the SHA-256 of its content."""

    @property
    def renditions(self) -> renditions.RenditionStore:
        """Return the store of the thumbnails and previews of these images."""

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """Store bytes durably: when this returns, a power failure does not lose them.

        Raises:
            errors.BlobsUnavailable: the store is full or does not answer; no partial blob is visible.
        """

    def get(self, sha256: str) -> bytes:
        """Return the bytes.

        Raises:
            errors.BlobMissing: the blob does not exist.
            errors.BlobsUnavailable: the store does not answer.
        """

    def remove(self, digests: Iterable[str]) -> None:
        """Remove blobs, except those that were put within the last hour: a submission may be about to refer to them.

        Their renditions are removed in any case.

        Raises:
            errors.BlobsUnavailable: the store does not answer, or one of them cannot be removed; in a folder the others
                are.
        """

    def list_old(self) -> Iterator[str]:
        """Yield the SHA-256 of the blobs that were not put within the last hour.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """

    def mark_owner(self, installation_id: str) -> bool:
        """Mark the store with the id of a database, unless it is marked already. Return whether the mark is this id.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """

    def path(self, sha256: str) -> Path | None:
        """Return the path of a blob's file, if the store has files: a reader may then open it itself."""

    def disk(self) -> os.statvfs_result | None:
        """Return size and free space of the store's file system, if it has one."""

    def remove_temp_files(self) -> None:
        """Remove the temporary files of writers that were killed."""

    def check(self) -> None:
        """Check that the store is writable.

        Raises:
            errors.BlobsUnavailable: it is not.
        """
