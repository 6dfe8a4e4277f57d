"""Generate files that attack an image decoder, and odd but valid ones."""

import struct
import zlib

from PIL import Image

from tests.support import image_files
from tests.support.image_files import PNG, make_png, png_chunk, png_header


def encode_image(image_format, size=(40, 30), mode="RGB", **options):
    """Return a valid image."""
    return image_files.encode(Image.new(mode, size), image_format, **options)


def jpeg_with_scans(size, count):
    """Return a progressive JPEG whose last scan is repeated `count` times."""
    return image_files.with_repeated_scans(encode_image("JPEG", (size, size), "L", progressive=True), count)


def decompression_bombs():
    """Return {name: bytes} of small files that are expensive to decode; none of them may be classified."""
    return {
        "12000 x 12000.png": make_png(12000, 12000, bytes(12001 * 100), colour=0),
        "9000 x 9000.png": make_png(9000, 9000, bytes(9001 * 9000), colour=0),
        "1 x 65536.png": make_png(1, 65536, bytes(2 * 65536), colour=0),
        "a thousand scans.jpg": jpeg_with_scans(1000, 1000),
        "rows that never end.png": make_png(100, 100, bytes(30_000_000))[:60],
        "65500 x 65500.jpg": jpeg_of_size(65500, 65500),
        "65535 x 65535.gif": b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x08\x00\x3b",
        "2147483647 x 1.bmp": bmp_header(2147483647, 1),
    }


def jpeg_of_size(width, height):
    """Return a small JPEG whose header claims this size."""
    data = encode_image("JPEG")
    start = data.index(b"\xff\xc0")
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


def bmp_header(width, height, bits=24):
    """Return the header of a BMP of this size."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head + bytes(100)


def hostile_files():
    """Return {name: (bytes, whether it must be classified, or None if it may be)} of hostile, broken and odd files."""
    return {
        **_phone_formats(),
        **_pngs(),
        **_jpegs(),
        **_gifs(),
        **_bmps(),
        **_webps(),
        **_tiffs(),
        **_others(),
        **_non_images(),
    }


def _pngs():
    row = bytes(1 + 3 * 20) * 20
    bomb = zlib.compress(bytes(50_000_000), 1)
    return {
        "text bomb.png": (make_png(20, 20, row, png_chunk(b"zTXt", b"Comment\0\0" + bomb)), None),
        "profile bomb.png": (make_png(20, 20, row, png_chunk(b"iCCP", b"icc\0\0" + bomb)), None),
        "international bomb.png": (make_png(20, 20, row, png_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)), None),
        "5000 texts.png": (make_png(20, 20, row, *[png_chunk(b"tEXt", b"a\0b")] * 5000), True),
        "bad checksum.png": (make_png(20, 20, row)[:40] + b"?" + make_png(20, 20, row)[41:], False),
        "no size.png": (make_png(0, 0, b""), False),
        "no width.png": (make_png(0, 20, b""), False),
        "bits 3.png": (make_png(20, 20, row, depth=3), False),
        "colour 9.png": (make_png(20, 20, row, colour=9), False),
        "too few rows.png": (make_png(20, 20, row[:200]), False),
        "too many rows.png": (make_png(20, 20, row * 500), True),
        "palette without palette.png": (make_png(20, 20, bytes(21 * 20), colour=3), None),
        "no head.png": (PNG + png_chunk(b"IDAT", zlib.compress(row)), False),
        "frames for ever.png": (make_png(20, 20, row, png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), None),
        "endless chunk.png": (PNG + png_chunk(b"IHDR", bytes(13)) + b"\x7f\xff\xff\xffIDAT" + bytes(50), False),
        "packed garbage.png": (
            PNG + png_header(9, 9) + png_chunk(b"IDAT", b"garbage"),
            False,
        ),
        "sixteen bits.png": (encode_image("PNG", mode="I;16"), True),
        "grey and alpha.png": (encode_image("PNG", mode="LA"), True),
        "one bit.png": (encode_image("PNG", mode="1"), True),
        "one pixel.png": (encode_image("PNG", (1, 1)), True),
        "a line.png": (encode_image("PNG", (16384, 1)), True),
        "moving.png": (animated_image("PNG", 30), True),
    }


def _jpegs():
    good = encode_image("JPEG", (64, 64))
    app1 = b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65533 - 6)
    comment = b"\xff\xfe\xff\xff" + bytes(65533)
    cuts = {f"cut at {n}0 per cent.jpg": (good[: len(good) * n // 10], False) for n in range(1, 9)}
    turns = {f"turned {n}.jpg": (jpeg_with_orientation(good, n), True) for n in (0, 1, 6, 8, 9, 255)}
    return {
        **cuts,
        **turns,
        "65535 scans.jpg": (jpeg_with_scans(64, 65_535), False),
        "a hundred profiles.jpg": (good[:2] + app1 * 100 + good[2:], None),
        "a hundred comments.jpg": (good[:2] + comment * 100 + good[2:], None),
        "no tables.jpg": (good[: good.index(b"\xff\xdb")] + good[good.index(b"\xff\xc0") :], False),
        "no height.jpg": (jpeg_of_size(64, 0), False),
        "twelve bits.jpg": (good.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"), False),
        "lossless.jpg": (good.replace(b"\xff\xc0", b"\xff\xc3", 1), False),
        "arithmetic.jpg": (good.replace(b"\xff\xc0", b"\xff\xc9", 1), None),
        "resets.jpg": (good[:-2] + b"\xff\xd0\xff\xd1" * 100_000 + b"\xff\xd9", None),
        "ink.jpg": (encode_image("JPEG", mode="CMYK"), True),
        "grey.jpg": (encode_image("JPEG", mode="L"), True),
        "only begun.jpg": (b"\xff\xd8\xff", False),
        "a million fill bytes.jpg": (good[:2] + b"\xff" * 1_000_000 + good[2:], None),
        "twice.jpg": (good + good, True),
    }


def jpeg_with_orientation(good, orientation):
    """Return a JPEG with an EXIF orientation."""
    tags = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + bytes(4)
    return good[:2] + b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags + good[2:]


def animated_image(image_format, frames):
    """Return an image of so many frames."""
    first, *rest = [Image.new("RGB", (20, 20), (n % 256, n // 256 % 256, 0)) for n in range(frames)]
    return image_files.encode(first, image_format, save_all=True, append_images=rest, duration=10)


def _gifs():
    head = b"GIF89a" + struct.pack("<HHBBB", 20, 20, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 20, 20, 0)
    return {
        "no frame.gif": (head + b";", False),
        "code of 255 bits.gif": (head + frame + b"\xff\x01a\0;", False),
        "no data.gif": (head + frame + b"\x02\0;", None),
        "data for ever.gif": (head + frame + b"\x02" + (b"\xff" + b"\x44" * 255) * 20_000, None),
        "comments.gif": (
            head + b"!\xfe" + (b"\xff" + b"c" * 255) * 20_000 + b"\0" + frame + b"\x02\x02\x4c\x01\0;",
            None,
        ),
        "frame beyond.gif": (head + b"," + struct.pack("<HHHHB", 60000, 60000, 9, 9, 0) + b"\x02\x02\x4c\x01\0;", None),
        "3000 frames.gif": (animated_image("GIF", 3000), True),
        "great and empty.gif": (b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0) + b";", False),
        "good.gif": (encode_image("GIF", mode="P"), True),
    }


def _bmps():
    good = encode_image("BMP")
    packed = (
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, 0, 0, 0, 256, 0)
    )
    return {
        "good.bmp": (good, True),
        "upside down.bmp": (good[:22] + struct.pack("<i", -30) + good[26:], None),
        "no width.bmp": (bmp_header(0, 10), False),
        "negative width.bmp": (bmp_header(-10, 10), False),
        "bits 7.bmp": (bmp_header(10, 10, 7), False),
        "colours.bmp": (good[:46] + b"\xff\xff\xff\x7f" + good[50:], None),
        "runs beyond.bmp": (packed + bytes(1024) + b"\0\2\xff\xff" * 1000, None),
        "runs for ever.bmp": (packed + bytes(1024) + b"\0\0" * 500_000, None),
        "cut.bmp": (good[:200], False),
    }


def _webps():
    good, lossless = encode_image("WEBP"), encode_image("WEBP", lossless=True)
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xfe\xff\xff" * 2
    return {
        "good.webp": (good, True),
        "lossless.webp": (lossless, True),
        "moving.webp": (animated_image("WEBP", 200), True),
        "cut.webp": (good[: len(good) // 2], False),
        "great canvas.webp": (b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas, False),
        "lying length.webp": (good[:4] + b"\xff\xff\xff\x7f" + good[8:], None),
        "garbage.webp": (lossless[:25] + bytes(range(200)), False),
    }


def _tiffs():
    good = encode_image("TIFF")
    return {
        "good.tif": (good, True),
        "packed.tif": (encode_image("TIFF", compression="tiff_adobe_deflate"), True),
        "float.tif": (encode_image("TIFF", mode="F"), True),
        "many tags.tif": (make_tiff([(n, 3, 1, 1) for n in range(1000, 60_000, 2)]), False),
        "no end.tif": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", False),
        "great.tif": (make_tiff([(256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8), (262, 3, 1, 1)]), False),
        "strips beyond.tif": (
            make_tiff(
                [(256, 3, 1, 20), (257, 3, 1, 20), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 2**31), (279, 4, 1, 400)]
            ),
            False,
        ),
        "strips of strips.tif": (
            make_tiff(
                [
                    (256, 3, 1, 20),
                    (257, 3, 1, 20),
                    (258, 3, 1, 8),
                    (262, 3, 1, 1),
                    (273, 4, 2**28, 8),
                    (279, 4, 2**28, 8),
                ]
            ),
            False,
        ),
        "samples.tif": (
            make_tiff(
                [(256, 3, 1, 20), (257, 3, 1, 20), (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 65535), (273, 4, 1, 8)]
            ),
            False,
        ),
        "tile.tif": (
            make_tiff(
                [
                    (256, 3, 1, 20),
                    (257, 3, 1, 20),
                    (258, 3, 1, 8),
                    (262, 3, 1, 1),
                    (322, 4, 1, 2**31),
                    (323, 4, 1, 2**31),
                    (324, 4, 1, 8),
                ]
            ),
            False,
        ),
        "cut.tif": (good[: len(good) // 2], False),
    }


def make_tiff(tags):
    """Return a TIFF with these tags: (number, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def _phone_formats():
    files = {}
    for image_format in ("HEIC", "AVIF", "JPEG XL"):
        good = image_files.make(image_format, (64, 64))
        suffix = image_format.replace("JPEG XL", "jxl").lower()
        files[f"good.{suffix}"] = (good, True)
        files[f"cut.{suffix}"] = (good[: len(good) // 2], False)
        head = min(200, len(good) // 2)
        files[f"bytes turned.{suffix}"] = (good[:head] + bytes(255 - byte for byte in good[head:]), False)
    return files


def _others():
    files = {}
    for image_format in (
        "ICO",
        "PPM",
        "TGA",
        "PCX",
        "DDS",
        "JPEG2000",
        "ICNS",
        "SGI",
        "PDF",
        "EPS",
        "XBM",
        "MSP",
    ):
        mode = "1" if image_format in ("XBM", "MSP") else "RGB"
        try:
            files[f"another format.{image_format.lower()}"] = (encode_image(image_format, (64, 64), mode), False)
        except (KeyError, OSError):  # this Pillow was built without it
            continue
    return files


def _non_images():
    good = encode_image("PNG")
    return {
        "nothing.png": (b"", False),
        "one byte.png": (b"\x89", False),
        "zeros.png": (bytes(1_000_000), False),
        "text.jpg": ("ärger".encode("utf-16"), False),
        "svg.png": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', False),
        "entities.png": (b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>', False),
        "page.gif": (b"<html><script>alert(1)</script>", False),
        "push graphic-context.jpg": (
            b"push graphic-context\nfill 'url(https://x/\"|ls \"-la)'\npop graphic-context",
            False,
        ),
        "zip.png": (b"PK\x03\x04" + bytes(100), False),
        "elf.png": (b"\x7fELF" + bytes(100), False),
        "pickle.png": (b"cos\nsystem\n(S'true'\ntR.", False),
        "script behind.gif": (encode_image("GIF", mode="P") + b"/*<script>alert(1)</script>*/", True),
        "archive behind.png": (good + b"PK\x03\x04" + bytes(100), True),
        "php inside.png": (
            make_png(20, 20, bytes(61 * 20), png_chunk(b"tEXt", b"a\0<?php system($_GET[0]); ?>")),
            True,
        ),
        "signature.png": (good[:8], False),
        "signature.gif": (b"GIF89a", False),
        "signature.webp": (b"RIFF\0\0\0\0WEBP", False),
        "signature.bmp": (b"BM", False),
        "signature.tif": (b"II*\0", False),
    }
