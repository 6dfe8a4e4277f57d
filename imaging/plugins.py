"""Decode PNG, GIF, BMP, WebP and TIFF by Pillow's plugins, even if their metadata is broken."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from imaging import errors, formats, limits, orientation, png_metadata, tiff, webp_metadata

# Not Image.open, which has a pixel limit of its own, and opens what is not on our list.
PLUGINS: dict[formats.Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
STRIP_METADATA: dict[formats.Format, Callable[[bytes], bytes]] = {
    "PNG": png_metadata.strip_metadata,
    "WebP": webp_metadata.strip_metadata,
    "TIFF": tiff.strip_metadata,
}


def decode(image_format: formats.Format, data: bytes, max_pixels: int) -> tuple[Image.Image, int]:
    """Return the pixels of the first frame, and the EXIF orientation; raise anything that Pillow raises."""
    loaded = None
    try:
        loaded = _load(image_format, data, max_pixels)
    except errors.ImageDecodeError:
        raise
    except Exception:
        stripped = STRIP_METADATA[image_format](data) if image_format in STRIP_METADATA else data
        if stripped == data:
            raise
    image, image_orientation = loaded or _load(image_format, stripped, max_pixels)
    if image_orientation == 1 and image_format == "WebP" and not image.info.get("exif"):
        image_orientation = orientation.from_exif(webp_metadata.exif(data))
    return image, image_orientation


def _load(image_format: formats.Format, data: bytes, max_pixels: int) -> tuple[Image.Image, int]:
    image = PLUGINS[image_format](io.BytesIO(data))
    limits.check_size(*image.size, max_pixels)
    image.load()
    return image, orientation.read(image)
