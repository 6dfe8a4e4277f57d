"""Limits on the size of an image; a JPEG that is decoded at a reduced size counts with that."""

from __future__ import annotations

from imaging import errors

MAX_PIXELS = 64_000_000
"""By default. Most images of this size fit in a decoder's 768 MB, with four bytes a pixel and a copy."""
MAX_SIDE = 65_535
JPEG_SCALES = (1, 2, 4, 8)
"""A JPEG can be decoded at 1/1, 1/2, 1/4 or 1/8 of its sides."""


def check_size(width: int, height: int, max_pixels: int, scale: int = 1) -> None:
    """Check a header's size; a JPEG is decoded at 1/`scale` of it.

    Raises:
        errors.ImageDecodeError: `undecodable` without pixels, `too_large` above the limits.
    """
    if width < 1 or height < 1:
        raise errors.ImageDecodeError(
            "undecodable", f"The image header declares {width} x {height} pixels; send an intact copy."
        )
    if max(width, height) > MAX_SIDE or scaled(width, scale) * scaled(height, scale) > max_pixels:
        decoded = f", decoded at 1/{scale} of its sides" if scale > 1 else ""
        raise errors.ImageDecodeError(
            "too_large",
            f"The image has {width:,} x {height:,} pixels{decoded}; at most {max_pixels:,} pixels and {MAX_SIDE:,} "
            "on a side are accepted. Send a smaller one.",
        )


def scaled(side: int, scale: int) -> int:
    """Return the side of a JPEG that is decoded at 1/`scale`."""
    return -(-side // scale)


def jpeg_scale(width: int, height: int, max_pixels: int, min_side: int | None) -> int:
    """Return the scale of `JPEG_SCALES` at which to decode a JPEG, within `max_pixels` if one is.

    Of the scales within `max_pixels`, it is the one of the smallest image that has `min_side` on both sides; if none
    has, or `min_side` is None, the one of the largest image.
    """
    fitting = [scale for scale in JPEG_SCALES if scaled(width, scale) * scaled(height, scale) <= max_pixels]
    if not fitting:
        return JPEG_SCALES[-1]
    large = [scale for scale in fitting if min_side and min(width, height) // scale >= min_side]
    return large[-1] if large else fitting[0]
