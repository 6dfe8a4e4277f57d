"""Decode PNG, GIF, BMP, WebP and TIFF by Pillow's plugins, even if their metadata is broken."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from imaging import errors, formats, limits, orientation, png_metadata, tiff, webp_metadata

T = TypeVar("T")
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

    def load(image: ImageFile.ImageFile) -> tuple[Image.Image, int]:
        limits.check_size(*image.size, max_pixels)
        image.load()
        return image, orientation.read(image)

    image, image_orientation = _with_or_without_metadata(image_format, data, load)
    if image_orientation == 1 and image_format == "WebP" and not image.info.get("exif"):
        image_orientation = orientation.from_exif(webp_metadata.exif(data))
    return image, image_orientation


def _with_or_without_metadata(image_format: formats.Format, data: bytes, use: Callable[[ImageFile.ImageFile], T]) -> T:
    """Open and use an image; if that fails, do so again without its metadata."""
    plugin, strip = PLUGINS[image_format], STRIP_METADATA.get(image_format)
    try:
        return use(plugin(io.BytesIO(data)))
    except errors.ImageDecodeError:
        raise
    except Exception:
        if strip is None:
            raise
        stripped = strip(data)
        if stripped == data:
            raise
    return use(plugin(io.BytesIO(stripped)))
