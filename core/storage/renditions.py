"""Rendition store: the smaller JPEGs that are made of images, kept beside the blobs and removed with them.

They can be made again at any time, so nothing is flushed to disk, and a limit bounds them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

FOLDER = "renditions"  # in the blob store
KEPT_SHARE = 0.9  # of the limit: what a trim leaves, so that not every new rendition causes another


@dataclass(frozen=True)
class Rendition:
    """A stored rendition."""

    sha256: str
    """Of the image."""
    kind: str
    """Its size, and the version of the code that made it."""
    bytes: int
    written_at: float
    """Seconds since 1970."""


class RenditionStore(Protocol):
    """A store of JPEGs by the SHA-256 of their images and their kind."""

    def get(self, sha256: str, kind: str) -> bytes | None:
        """Return a rendition; None if there is none.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """

    def put(self, sha256: str, kind: str, data: bytes) -> None:
        """Store a rendition.

        Raises:
            errors.BlobsUnavailable: the store is full or does not answer; no partial rendition is visible.
        """

    def list_all(self) -> Iterator[Rendition]:
        """Yield every rendition.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """

    def remove(self, stored: Iterable[Rendition]) -> None:
        """Remove renditions; one that does not exist is skipped.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """

    def remove_of_images(self, digests: Iterable[str]) -> None:
        """Remove all renditions of these images.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """


def trim(store: RenditionStore, max_bytes: int) -> int:
    """Remove the oldest renditions if all together have more bytes than the limit. Return how many.

    Raises:
        errors.BlobsUnavailable: the store does not answer.
    """
    stored = sorted(store.list_all(), key=lambda rendition: rendition.written_at)
    excess = sum(rendition.bytes for rendition in stored) - KEPT_SHARE * max_bytes
    if excess <= (1 - KEPT_SHARE) * max_bytes:
        return 0
    oldest = []
    for rendition in stored:
        if excess <= 0:
            break
        oldest.append(rendition)
        excess -= rendition.bytes
    store.remove(oldest)
    return len(oldest)
