"""The bytes of an image, as they were submitted."""

import hashlib
from collections.abc import Callable

from core import errors
from core.storage import base


def read(store: base.BlobStore, sha256: str, read_source: Callable[[], bytes] | None = None) -> bytes:
    """Return the bytes of an image in the blob store, or of one that `read_source` reads.

    Raises:
        errors.ImageGone: its bytes do not exist any more, or are other ones by now.
        errors.ServiceUnavailable: the store or the source does not answer.
    """
    try:
        data = store.get(sha256) if read_source is None else read_source()
    except errors.BlobMissing:
        raise errors.ImageGone from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise errors.ImageGone("There are other bytes under this name by now; submit the image again.")
    return data
