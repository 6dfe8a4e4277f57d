"""Small files of every format in its variants, each with the pixels that it should decode to."""

import io
import struct
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from tests.support import image_files

HEIGHT, WIDTH = 48, 64
_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH]
COLOUR = np.stack([_X * 255 // (WIDTH - 1), _Y * 255 // (HEIGHT - 1), (_X + _Y) * 255 // 110], -1).astype(np.uint8)
GREY = np.ascontiguousarray(COLOUR[..., 0])
TRANSPARENT_ROWS = 8  # of the variants with alpha; white once flattened


@dataclass(frozen=True)
class Variant:
    """A file, and the RGB pixels that it should decode to, unless it is refused."""

    image_format: str
    name: str
    data: bytes
    pixels: np.ndarray | None = None
    tolerance: int = 3

    def is_right(self, image):
        """Return whether a decoded image has the right pixels."""
        pixels = np.asarray(image).astype(int)
        expected = self.pixels if self.pixels.ndim == 3 else np.repeat(self.pixels[..., None], 3, -1)
        return pixels.shape == expected.shape and np.abs(pixels - expected).max() <= self.tolerance


def flattened(pixels):
    """Return pixels of which the first rows are white."""
    pixels = pixels.copy()
    pixels[:TRANSPARENT_ROWS] = 255
    return pixels


def with_alpha(pixels):
    """Return pixels with a channel of alpha, zero in the first rows."""
    highest = np.iinfo(pixels.dtype).max
    alpha = np.full((HEIGHT, WIDTH, 1), highest, pixels.dtype)
    alpha[:TRANSPARENT_ROWS] = 0
    return np.concatenate([pixels if pixels.ndim == 3 else pixels[..., None], alpha], -1)


def all_variants():
    """Return every variant, in the order of the formats."""
    return [*_jpegs(), *_pngs(), *_gifs(), *_bmps(), *_webps(), *_tiffs(), *_phone_formats()]


def png_with_chunk(kind, content, crc=None):
    """Return a PNG with a chunk before its pixels, whose check sum may be wrong."""
    data = image_files.encode(Image.fromarray(COLOUR), "PNG")
    return data[:33] + image_files.png_chunk(kind, content, crc) + data[33:]


def cut_jpeg(share, *, end_marker, progressive=False):
    """Return the first part of a JPEG's scans, with or without an end marker after it."""
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    data = image_files.encode(Image.fromarray(noise), "JPEG", progressive=progressive, quality=75)
    start = data.index(b"\xff\xda")
    return data[: start + int((len(data) - 2 - start) * share)] + (b"\xff\xd9" if end_marker else b"")


def _jpegs():
    colour, grey = Image.fromarray(COLOUR), Image.fromarray(GREY)
    plain = image_files.encode(colour, "JPEG", quality=95)
    ink = image_files.encode(colour.convert("CMYK"), "JPEG", quality=95)
    yield Variant("JPEG", "baseline", plain, COLOUR, 12)
    yield Variant("JPEG", "progressive", image_files.encode(colour, "JPEG", quality=95, progressive=True), COLOUR, 12)
    yield Variant("JPEG", "grey", image_files.encode(grey, "JPEG", quality=95), GREY, 12)
    yield Variant("JPEG", "CMYK", ink, np.asarray(colour.convert("CMYK").convert("RGB")), 16)
    start = ink.index(b"\xff\xee")
    yield Variant("JPEG", "CMYK without Adobe's marker", ink[:start] + ink[start + 16 :])
    yield Variant("JPEG", "12 bits a sample", imagecodecs.jpeg_encode(COLOUR.astype(np.uint16) << 4, bitspersample=12))
    yield Variant("JPEG", "lossless", imagecodecs.jpeg_encode(COLOUR, lossless=True))
    yield Variant("JPEG", "JPEG-LS", imagecodecs.jpegls_encode(COLOUR))
    yield Variant("JPEG", "without its end marker", plain[:-2], COLOUR, 12)
    yield Variant("JPEG", "half of it, with an end marker", cut_jpeg(0.5, end_marker=True))
    yield Variant("JPEG", "half of it, without an end marker", cut_jpeg(0.5, end_marker=False))
    yield Variant("JPEG", "progressive, half of it", cut_jpeg(0.5, end_marker=True, progressive=True))


def _pngs():
    colour, deep = Image.fromarray(COLOUR), COLOUR.astype(np.uint16) * 257
    for mode, pixels in {"1": (GREY > 127) * 255, "L": GREY, "P": None, "RGB": COLOUR}.items():
        image = Image.fromarray(pixels.astype(np.uint8)).convert(mode) if pixels is not None else colour.quantize(64)
        expected = np.asarray(image.convert("RGB"))
        bits = {"1": "grey, 1 bit", "L": "grey, 8 bits", "P": "palette", "RGB": "RGB, 8 bits"}[mode]
        yield Variant("PNG", bits, image_files.encode(image, "PNG"), expected)
    yield Variant("PNG", "grey, 16 bits", imagecodecs.png_encode(np.ascontiguousarray(deep[..., 0])), GREY)
    yield Variant("PNG", "grey and alpha, 8 bits", imagecodecs.png_encode(with_alpha(GREY)), flattened(GREY))
    yield Variant("PNG", "RGB, 16 bits", imagecodecs.png_encode(deep), COLOUR)
    yield Variant("PNG", "RGB and alpha, 8 bits", imagecodecs.png_encode(with_alpha(COLOUR)), flattened(COLOUR))
    yield Variant("PNG", "RGB and alpha, 16 bits", imagecodecs.png_encode(with_alpha(deep)), flattened(COLOUR))
    yield Variant("PNG", "wrong check sum of metadata", png_with_chunk(b"pHYs", bytes(9), crc=1), COLOUR)
    profile = b"icc\0\0" + zlib.compress(bytes(2_000_000))
    yield Variant("PNG", "colour profile of 2 MB", png_with_chunk(b"iCCP", profile), COLOUR)
    bomb = b"icc\0\0" + zlib.compress(bytes(70_000_000))
    yield Variant("PNG", "metadata that unpacks to more than 64 MB", png_with_chunk(b"iCCP", bomb))
    apple = png_with_chunk(b"CgBI", bytes(4))
    yield Variant("PNG", "Apple's own variant", apple[:8] + apple[33:49] + apple[8:33] + apple[49:])


def _gifs():
    image = Image.fromarray(COLOUR).quantize(64)
    options = {"save_all": True, "append_images": [Image.new("P", image.size)]}
    for name, chosen in {"one frame": {}, "animation: its first frame": options}.items():
        yield Variant("GIF", name, image_files.encode(image, "GIF", **chosen), np.asarray(image.convert("RGB")))


def _bmps():
    for mode, name in {"1": "1 bit", "P": "palette", "RGB": "24 bits"}.items():
        image = Image.fromarray(COLOUR).convert(mode)
        yield Variant("BMP", name, image_files.encode(image, "BMP"), np.asarray(image.convert("RGB")))
    blue_first = np.concatenate([COLOUR[::-1, :, ::-1], np.zeros((HEIGHT, WIDTH, 1), np.uint8)], -1).tobytes()
    for masks, name, expected in (
        ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), "32 bits with an alpha of zero everywhere: opaque", COLOUR),
        ((0xFF << 22, 0xFF << 12, 0xFF << 2, 0), "32 bits with colour masks of 10 bits", None),
    ):
        head = struct.pack("<IiiHHIIiiII4I", 124, WIDTH, HEIGHT, 1, 32, 3, 0, 0, 0, 0, 0, *masks)
        yield Variant(
            "BMP", name, b"BM" + struct.pack("<IHHI", 0, 0, 0, 138) + head.ljust(124, b"\0") + blue_first, expected
        )


def _webps():
    image = Image.fromarray(COLOUR)
    alpha = Image.fromarray(with_alpha(COLOUR))
    options = {"save_all": True, "append_images": [Image.new("RGB", image.size)], "lossless": True}
    yield Variant("WebP", "lossy", image_files.encode(image, "WebP", quality=95), COLOUR, 24)
    yield Variant("WebP", "lossless", image_files.encode(image, "WebP", lossless=True), COLOUR)
    yield Variant("WebP", "with alpha", image_files.encode(alpha, "WebP", lossless=True), flattened(COLOUR))
    yield Variant("WebP", "animation: its first frame", image_files.encode(image, "WebP", **options), COLOUR)


def encode_tiff(pixels, **options):
    """Return a TIFF that tifffile writes."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def _tiffs():
    deep, inks = (
        COLOUR.astype(np.uint16) * 257,
        np.concatenate([255 - COLOUR, np.zeros((HEIGHT, WIDTH, 1), np.uint8)], -1),
    )
    planes = np.ascontiguousarray(np.moveaxis(deep, -1, 0))
    for name, pixels, options, expected in (
        ("grey, 8 bits", GREY, {}, GREY),
        ("grey, 16 bits", deep[..., 0], {}, GREY),
        ("grey, 16 bits, zero is white", 65535 - deep[..., 0], {"photometric": "miniswhite"}, GREY),
        ("grey, 32 bits", deep[..., 0].astype(np.uint32), {}, None),
        ("grey, signed 8 bits", GREY.astype(np.int8), {}, None),
        ("grey, floating-point 32 bits", GREY.astype(np.float32), {}, GREY),
        ("RGB, 8 bits", COLOUR, {"photometric": "rgb"}, COLOUR),
        ("RGB, 8 bits, JPEG-compressed", COLOUR, {"photometric": "rgb", "compression": "jpeg"}, COLOUR),
        ("RGB, 16 bits", deep, {"photometric": "rgb"}, COLOUR),
        ("RGB, 16 bits, in planes", planes, {"photometric": "rgb", "planarconfig": "separate"}, None),
        (
            "RGB, 16 bits, in planes, deflate",
            planes,
            {"photometric": "rgb", "planarconfig": "separate", "compression": "deflate"},
            COLOUR,
        ),
        ("RGB, floating-point 32 bits", COLOUR.astype(np.float32), {"photometric": "rgb"}, None),
        (
            "RGB and alpha",
            with_alpha(COLOUR),
            {"photometric": "rgb", "extrasamples": ["unassalpha"]},
            flattened(COLOUR),
        ),
        ("CMYK, 8 bits", inks, {"photometric": "separated"}, COLOUR),
        ("RGB, 8 bits, WebP-compressed", COLOUR, {"photometric": "rgb", "compression": "webp"}, None),
    ):
        yield Variant("TIFF", name, encode_tiff(pixels, **{"photometric": "minisblack"} | options), expected, 8)


def _phone_formats():
    colour, alpha, grey = Image.fromarray(COLOUR), Image.fromarray(with_alpha(COLOUR)), Image.fromarray(GREY)
    best = {"HEIC": {"quality": -1, "chroma": 444}, "AVIF": {"quality": 100}, "JPEG XL": {"lossless": True}}
    for image_format, options in best.items():
        for name, image, pixels in (
            ("RGB", colour, COLOUR),
            ("with alpha", alpha, flattened(COLOUR)),
            ("grey", grey, GREY),
        ):
            yield Variant(image_format, name, image_files.encode(image, image_format, **options), pixels, 12)
    deep = COLOUR.astype(np.uint16)
    yield Variant("AVIF", "10 bits", imagecodecs.avif_encode(deep << 2, level=100, bitspersample=10), COLOUR, 12)
    yield Variant("JPEG XL", "16 bits", imagecodecs.jpegxl_encode(deep * 257, lossless=True), COLOUR)
    repacked = imagecodecs.jpegxl_encode_jpeg(image_files.encode(colour, "JPEG", quality=95))
    yield Variant("JPEG XL", "a JPEG, repacked without loss", repacked, COLOUR, 12)
