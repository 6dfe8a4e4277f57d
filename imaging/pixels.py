"""From the colours of a file to RGB."""

from __future__ import annotations

import math

from PIL import Image

from imaging import formats, tiff_variants

WHITE = (255, 255, 255)


def to_rgb(image: Image.Image, image_format: formats.Format, data: bytes) -> Image.Image:
    """Return RGB: alpha flattened on white, grey levels of more than 8 bits stretched from their own range."""
    if image_format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")  # many programs leave the fourth byte of a pixel zero, and mean opaque
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8bit(image, is_inverted=image_format == "TIFF" and _is_min_white(data))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _flatten_alpha(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # converting RGB would copy it


def _flatten_alpha(image: Image.Image) -> Image.Image:
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    background = Image.new("RGB", image.size, WHITE)
    background.paste(rgba, mask=rgba.getchannel("A"))
    return background


def _is_min_white(data: bytes) -> bool:
    """Return whether zero is white in a TIFF of more than eight bits, which Pillow leaves as it is."""
    variant = tiff_variants.read_variant(data)
    return variant is not None and variant.photometric == tiff_variants.WHITE_IS_ZERO


def _scale_to_8bit(image: Image.Image, *, is_inverted: bool) -> Image.Image:
    """Stretch grey levels beyond eight bits from the image's own range to 0..255 (Pillow would clip them)."""
    import numpy as np  # noqa: PLC0415 - for these images only: it takes longer to load than most images to decode

    # In place: at the pixel limit, each copy takes 256 MB of the decoder's memory.
    values = np.array(image, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return Image.new("RGB", image.size)
    low = float(values.min(where=finite, initial=math.inf))
    high = float(values.max(where=finite, initial=-math.inf))
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    # Halved, because high - low may overflow a float32.
    span = high / 2 - low / 2
    values /= 2
    values -= low / 2
    values *= 255 / span if span > 0 else 0
    levels = np.rint(values, out=values).astype(np.uint8)
    del values, finite
    return Image.fromarray(255 - levels if is_inverted and span > 0 else levels).convert("RGB")
