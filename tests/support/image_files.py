"""Encode images as files of every format that is decoded, and build PNGs and JPEGs from their parts."""

import io
import struct
import zlib

import pillow_heif
import pillow_jxl  # noqa: F401 (registers its encoder with Pillow)
from PIL import Image

PILLOW_NAMES = {"WebP": "WEBP", "JPEG XL": "JXL"}
PNG = b"\x89PNG\r\n\x1a\n"


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


def png_chunk(kind, content=b"", crc=None):
    """Return a PNG chunk, whose checksum may be wrong."""
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_header(width=20, height=20, depth=8, colour=2):
    """Return the IHDR chunk of a PNG."""
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def make_png(width, height, rows=None, *extra_chunks, depth=8, colour=2):
    """Return a PNG of a size with these row bytes (or no pixels), and extra chunks before them."""
    pixels = b"" if rows is None else zlib.compress(rows, 9)
    chunks = [png_header(width, height, depth, colour), *extra_chunks, png_chunk(b"IDAT", pixels), png_chunk(b"IEND")]
    return PNG + b"".join(chunks)


def with_repeated_scans(jpeg, count):
    """Return a progressive JPEG whose last scan is there `count` times."""
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:start] + jpeg[start:-2] * count + b"\xff\xd9"
