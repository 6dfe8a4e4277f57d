"""Decode HEIC, AVIF and JPEG XL, each on one core. They apply the orientation in the container, or report it.

The codecs are loaded on first use, or by `load_all` before a sandbox forbids it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from imaging import jpeg, limits

_MODULES = ("pillow_heif", "PIL._avif", "pillow_jxl")


def load_all() -> None:
    """Load all codecs."""
    for module in _MODULES:
        importlib.import_module(module)


def decode_heic(data: bytes, max_pixels: int, _: int | None) -> tuple[Image.Image, int]:
    """Return the pixels of the primary image, upright."""
    pillow_heif: Any = importlib.import_module("pillow_heif")
    pillow_heif.options.DECODE_THREADS = 0  # none for tiles; the HEVC decoder always works in one of its own
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
    image = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    limits.check_size(image.size[0], image.size[1], max_pixels)
    pixels = image.data  # decodes, after which the size and the mode are known
    mode = {"RGBA": "RGBa", "LA": "La"}.get(image.mode, image.mode) if image.premultiplied_alpha else image.mode
    return Image.frombuffer(mode, image.size, pixels, "raw", mode, image.stride, 1), 1


def decode_avif(data: bytes, max_pixels: int, _: int | None) -> tuple[Image.Image, int]:
    """Return the pixels of the first frame, and the orientation of the container."""
    # Not the plugin around it, which refuses an image for broken EXIF data.
    decoder = importlib.import_module("PIL._avif").AvifDecoder(data, "auto", 1)
    size, _frames, mode, _icc, _exif, orientation, _xmp = decoder.get_info()
    limits.check_size(size[0], size[1], max_pixels)
    return Image.frombuffer(mode, size, decoder.get_frame(0)[0], "raw", mode, 0, 1), orientation


def decode_jpeg_xl(data: bytes, max_pixels: int, min_side: int | None) -> tuple[Image.Image, int]:
    """Return the pixels of the first frame, upright; a JPEG that was repacked without loss is decoded as such."""
    decoder = importlib.import_module("pillow_jxl").Decoder(num_threads=0)
    is_jpeg, info, pixels, _icc, _boxes = decoder(data)
    if is_jpeg:
        return jpeg.decode(pixels, max_pixels, min_side)
    limits.check_size(info.width, info.height, max_pixels)
    if info.mode == "LA" and len(pixels) == 4 * info.width * info.height:
        pixels = pixels[1::2]  # 16 bits a sample, which the codec does not report
    return Image.frombuffer(info.mode, (info.width, info.height), pixels, "raw", info.mode, 0, 1), 1


Decoder = Callable[[bytes, int, int | None], tuple[Image.Image, int]]
