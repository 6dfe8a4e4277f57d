"""Encode images as files of every format that is decoded."""

import io

import pillow_heif
import pillow_jxl  # noqa: F401 (registers its encoder with Pillow)
from PIL import Image

PILLOW_NAMES = {"WebP": "WEBP", "JPEG XL": "JXL"}


def encode(image, image_format="PNG", **options):
    """Return an image as a file of a format of `imaging.formats.FORMATS`, or of Pillow."""
    buffer = io.BytesIO()
    if image_format == "HEIC":
        pillow_heif.from_pillow(image).save(buffer, **{"quality": 95} | options)
    else:
        image.save(buffer, PILLOW_NAMES.get(image_format, image_format), **options)
    return buffer.getvalue()


def make(image_format, size=(40, 30), colour=(200, 60, 20)):
    """Return a small valid image of one colour."""
    return encode(Image.new("RGB", size, colour), image_format)
