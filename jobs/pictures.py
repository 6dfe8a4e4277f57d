"""Which pictures are taken in: judged by their header alone, never decoded here."""

import hashlib
import io
import warnings

from PIL import Image, UnidentifiedImageError

from jobs import errors
from jobs.store import incoming

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
MAX_SIDE = 16_384


def judge(
    name: str, data: bytes, *, max_bytes: int, max_pixels: int, custom_id: str | None = None
) -> incoming.NewImage:
    """A picture's digest and size, and what its header says against it."""
    error = None
    try:
        inspect(data, max_bytes=max_bytes, max_pixels=max_pixels)
    except errors.BadPicture as bad:
        # A new one: the traceback of this would keep the picture until the garbage collector comes by.
        error = errors.BadPicture(bad.code, bad.detail)
    return incoming.NewImage(name, hashlib.sha256(data).hexdigest(), len(data), error, custom_id)


def inspect(data: bytes, *, max_bytes: int, max_pixels: int) -> None:
    """Judge a picture by its size in bytes and its header.

    Raises:
        errors.BadPicture: `empty`, `too_large` or `unsupported_format`.
    """
    if not data:
        raise errors.BadPicture("empty", "The file is empty.")
    if len(data) > max_bytes:
        raise errors.BadPicture("too_large", f"The file has {len(data):,} bytes; at most {max_bytes:,} are taken.")
    width, height = _size(data)
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        limit = f"at most {max_pixels:,} pixels and {MAX_SIDE:,} on a side are taken"
        raise errors.BadPicture("too_large", f"The picture has {width:,} x {height:,} pixels; {limit}.")


def _size(data: bytes) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise errors.BadPicture("too_large", f"{error}.") from None
    except UnidentifiedImageError:
        names = ", ".join(FORMATS)
        raise errors.BadPicture("unsupported_format", f"The file is no picture of a known format ({names}).") from None
    except Exception as error:  # noqa: BLE001 (hostile headers raise anything)
        raise errors.BadPicture("undecodable", f"The picture's header is broken: {error}.") from None
