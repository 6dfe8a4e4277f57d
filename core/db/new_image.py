"""A new image, as the header check describes it and the queries insert it."""

from dataclasses import dataclass, field
from typing import Any, Self

from core import errors

URL_SOURCE = "url:"  # in the place of a source: the bytes are still to be fetched; no source has such a name
UNREAD_DIGEST = "0" * 64  # of bytes that were never read
ImageData = bytes  # a name of its own, since `NewImage.bytes` is a number


@dataclass(frozen=True)
class NewImage:
    """One image of a submission; with an error if the header check rejected it."""

    name: str
    sha256: str
    bytes: int
    error: errors.ImageFailed | None = None
    custom_id: str | None = None
    source: str | None = None
    """The name of the source that holds the bytes; None if they are in the blob store."""
    location: str | None = None
    """The path in that source."""
    url: str | None = None
    """Where the bytes are to be fetched; None for any other image."""
    reference: str | None = field(default=None, compare=False)
    """The JSON pointer to what refers to bytes that were stored for another image; None for any other image."""
    data: ImageData | None = field(default=None, repr=False, compare=False)
    """The bytes to be stored; None if they are stored already, or the header check rejected the image."""

    @classmethod
    def copy_of(cls, row: Any, name: str) -> Self:
        """Return a stored image as a new one; if its bytes are still to be fetched, they are fetched for it too."""
        url = row.url if row.source == URL_SOURCE else None
        location = {"source": row.source, "location": row.location}
        reference = "#/images" if row.source is None else None
        return cls(name, row.sha256, row.bytes, custom_id=row.custom_id, url=url, reference=reference, **location)
