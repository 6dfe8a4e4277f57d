"""Image header check: accepts or rejects an image by its header alone, without decoding it."""

import hashlib

from core import errors
from core.db.new_image import NewImage
from imaging import decode
from imaging.errors import ImageDecodeError


def prepare_image(name: str, data: bytes, *, max_bytes: int, max_pixels: int, custom_id: str | None = None) -> NewImage:
    """Return an image with its digest and its size, and with its bytes, or the error of its header check."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        check_header(data, max_bytes=max_bytes, max_pixels=max_pixels)
    except errors.ImageFailed as rejection:
        # A new error, since the traceback of this one would hold the image until the next garbage collection.
        error = errors.ImageFailed(rejection.code, rejection.detail)
        return NewImage(name, digest, len(data), error, custom_id)
    return NewImage(name, digest, len(data), None, custom_id, data=data)


def check_header(data: bytes, *, max_bytes: int, max_pixels: int) -> None:
    """Check an image's size in bytes and its header.

    Raises:
        errors.ImageFailed: `empty`, `too_large`, `unsupported_format` or `undecodable`.
    """
    if len(data) > max_bytes:
        raise errors.ImageFailed(
            "too_large", f"The file has {len(data):,} bytes; at most {max_bytes:,} are accepted. Send a smaller one."
        )
    try:
        decode.check_header(data, max_pixels=max_pixels)
    except ImageDecodeError as error:
        raise errors.ImageFailed(error.code, error.detail) from None
