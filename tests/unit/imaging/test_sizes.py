"""The header check reads the size of every format from the bytes, as Pillow does, in little memory."""

import io
import itertools
import struct
import tracemalloc
import zlib

import pytest
import tifffile
from PIL import BmpImagePlugin, Image

from imaging import bmff, decode, errors, formats, jpeg_structure, plugins, sizes
from tests.faults import hostile_images
from tests.support import image_files
from tests.support.image_files import PNG, png_chunk, png_header

GIF = b"GIF89a" + struct.pack("<HHBBB", 20, 20, 0, 0, 0)
GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 20, 20, 0) + b"\x02\x02\x4c\x01\0;"
EXIF = Image.Exif()
EXIF[0x010F] = "Maker"
SIZES = [(1, 1), (40, 30), (7, 300), (1025, 2)]
MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "GIF": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "WebP": ["L", "LA", "P", "RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"],
}
OPTIONS = {
    "PNG": [{}, {"optimize": True}, {"exif": EXIF}, {"dpi": (72, 72)}],
    "GIF": [{}, {"interlace": 0}, {"comment": b"a comment " * 100}, {"transparency": 0}, {"loop": 0, "duration": 9}],
    "BMP": [{}, {"dpi": (72, 72)}],
    "WebP": [{}, {"lossless": True}, {"exif": EXIF}, {"icc_profile": bytes(200)}],
    "TIFF": [{}, {"big_tiff": True}, {"dpi": (72, 72)}],
}
COMPRESSIONS = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg"]


def rejection(data):
    with pytest.raises(errors.ImageDecodeError) as caught:
        decode.check_header(data)
    return caught.value


def saved_files():
    """Yield (format, file) of each format in each mode and variant that Pillow writes."""
    for image_format, modes in MODES.items():
        for mode, size, options in itertools.product(modes, SIZES, OPTIONS[image_format]):
            yield image_format, image_files.encode(Image.new(mode, size), image_format, **options)
    for compression, size in itertools.product(COMPRESSIONS, SIZES):
        mode = "1" if compression == "group4" else "RGB"
        yield "TIFF", image_files.encode(Image.new(mode, size), "TIFF", compression=compression)
    for image_format, size in itertools.product(("PNG", "GIF", "WebP", "TIFF"), SIZES):
        frames = [Image.new("RGB", size, (40 * number, 9, 9)) for number in range(4)]
        yield image_format, image_files.encode(frames[0], image_format, save_all=True, append_images=frames[1:])


def test_the_size_is_that_of_pillow():
    """For every mode and variant that it writes."""
    read = 0
    for image_format, data in saved_files():
        with Image.open(io.BytesIO(data)) as image:
            assert decode.SIZE_READERS[image_format](data) == image.size
        read += 1
    assert read > 400


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_the_size_of_a_tiff_is_read_in_each_byte_order(order, is_big, tile):
    """Also of a BigTIFF, and of one in tiles."""
    file = io.BytesIO()
    tifffile.imwrite(file, shape=(30, 40), dtype="uint8", byteorder=order, bigtiff=is_big, tile=tile)

    assert sizes.tiff_size(file.getvalue()) == (40, 30)


@pytest.mark.parametrize(("kind", "letter"), [(3, "H"), (4, "I"), (8, "h"), (9, "i"), (13, "I"), (16, "Q")])
def test_the_size_of_a_tiff_is_read_in_each_type_of_integer(kind, letter):
    """Those that Pillow takes."""
    values = [struct.pack("<" + letter, side).ljust(8, b"\0") for side in (40, 30)]
    entries = [struct.pack("<HHQ", 256 + index, kind, 1) + value for index, value in enumerate(values)]
    entries.append(struct.pack("<HHQQ", 273, 4, 1, 8))
    data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(entries)) + b"".join(entries) + bytes(8)

    assert sizes.tiff_size(data) == (40, 30)


def bmp_files():
    """Yield BMPs of each header, with many depths, compressions, colour masks and palettes."""
    masks = [(0xFF0000, 0xFF00, 0xFF, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xF800, 0x7E0, 0x1F, 0), (1, 2, 3, 4)]
    for header, bits, compression, colours, mask, height in itertools.product(
        (12, 16, 40, 52, 56, 64, 108, 124), (1, 2, 8, 16, 24, 32), (0, 1, 3, 4), (0, 70_000), masks, (30, -30)
    ):
        if header == 12:
            fields = struct.pack("<HHHH", 40, abs(height), 1, bits)
        else:
            fields = struct.pack("<iiHHIIiiII4I", 40, height, 1, bits, compression, 0, 0, 0, colours, 0, *mask)
        yield b"BM" + struct.pack("<IHHII", 0, 0, 0, 1078, header) + fields + bytes(2000)


def test_a_bmp_is_accepted_as_by_pillow():
    """Its size is the same, and what Pillow does not decode is refused by its kind."""
    accepted = refused = 0
    for data in bmp_files():
        try:
            expected = BmpImagePlugin.BmpImageFile(io.BytesIO(data)).size
        except OSError:
            assert rejection(data).code == "unsupported_format"
            refused += 1
        else:
            assert sizes.bmp_size(data) == expected
            accepted += 1
    assert min(accepted, refused) > 500


@pytest.mark.parametrize("header", [0, 3, 12, 39, 40, 2**32 - 1])
def test_a_bmp_that_ends_in_its_header_is_rejected(header):
    """With an error of its own, also by an unknown header."""
    assert rejection(b"BM" + bytes(12) + struct.pack("<I", header)).code in ("undecodable", "unsupported_format")


def test_the_screen_of_a_gif_contains_its_first_frame():
    """As Pillow enlarges it."""
    frame = b"," + struct.pack("<HHHHB", 5, 7, 20, 30, 0) + b"\x02\0;"
    extensions = b"!\xf9\x04\0\0\0\0\0" + b"!\xfe\x03abc\x02de\0" + b"!\xff\x0bNETSCAPE2.0\x03\1\0\0\0" + b"\0\0"

    assert sizes.gif_size(GIF + extensions + frame) == (25, 37)


@pytest.mark.parametrize("form", formats.FORMATS)
def test_no_plugin_of_pillow_reads_a_header(form, monkeypatch):
    """They are for the sandbox."""
    monkeypatch.setattr(plugins, "PLUGINS", {})

    decode.check_header(image_files.make(form))


@pytest.mark.parametrize(
    "data",
    [
        PNG + png_chunk(b"IDAT"),
        PNG + png_header(),
        PNG + png_header(colour=9) + png_chunk(b"IDAT"),
        PNG + png_header()[:-1] + b"?" + png_chunk(b"IDAT"),
        PNG + png_chunk(b"IHDR", bytes(12)) + png_chunk(b"IDAT"),
        PNG + png_header() + png_chunk(b"PLTE", bytes(3))[:-1] + b"?" + png_chunk(b"IDAT"),
        GIF + b";",
        GIF + b"!\xfe",
        GIF + b"!\xf9",
        GIF + GIF_FRAME[:9],
        b"RIFF\x04\0\0\0WEBP",
        image_files.make("WebP")[:-9],
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10),
        b"RIFF\x1e\0\0\0WEBPVP8L\x0a\0\0\0" + bytes(10),
        hostile_images.make_tiff([(257, 3, 1, 20), (273, 4, 1, 8)]),
        hostile_images.make_tiff([(256, 3, 1, 20), (257, 3, 1, 20)]),
        b"II+\0\x08\0\0\0" + b"\xff" * 8,
        b"II*\0" + b"\xff" * 4,
    ],
)
def test_a_header_without_a_size_or_pixels_is_damaged(data):
    """As it was by Pillow, at the submission."""
    assert rejection(data).code == "undecodable"


def test_the_header_of_a_png_may_follow_other_chunks():
    """The last one counts, as it does for Pillow."""
    text = png_chunk(b"tEXt", b"a\0b")
    data = PNG + text + png_header(9, 9) + text + png_header(20, 10) + png_chunk(b"IDAT", zlib.compress(bytes(610)))

    assert sizes.png_size(data) == decode.open_image(data).size == (20, 10)


def hostile_headers():
    """Return {name: (file, words of its rejection)} of files that take Pillow gigabytes, or seconds to open."""
    count = 500_000
    strips = [(256, 3, 1, 1), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    strips += [(273, 1, count, 110), (277, 3, 1, 1), (278, 3, 1, 1)]
    canvas = b"VP8X\x0a\0\0\0" + bytes(10)
    return {
        "a TIFF of strips": (hostile_images.make_tiff(strips) + bytes(count), "more than 262,144 strips or tiles"),
        "a PNG of chunks": (
            PNG + png_header() + png_chunk(b"prVt") * count + png_chunk(b"IDAT"),
            "more than 100,000 chunks",
        ),
        "a PNG of headers": (PNG + png_header() * (count // 4) + png_chunk(b"IDAT"), "more than 100,000 chunks"),
        "a GIF of extensions": (GIF + b"!\1\1a\0" * count + GIF_FRAME, "more than 100,000 blocks"),
        "a GIF of empty extensions": (GIF + b"!\0\0" * count * 12 + GIF_FRAME, "more than 100,000 blocks"),
        "a GIF of one comment": (GIF + b"!\xfe" + b"\1a" * count + b"\0" + GIF_FRAME, "more than 100,000 blocks"),
        "a WebP of chunks": (b"RIFF\0\0\0\0WEBP" + canvas + (b"abcd" + bytes(4)) * count, "no whole image"),
    }


@pytest.mark.parametrize("name", hostile_headers())
def test_a_hostile_header_takes_little_memory(name):
    """Neither the header check nor the decoder gives it to Pillow."""
    data, words = hostile_headers()[name]
    tracemalloc.start()
    try:
        error = rejection(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert words in error.detail
    assert peak < 1_000_000
    with pytest.raises(errors.ImageDecodeError, match=words):
        decode.open_image(data)


def test_associations_of_a_heic_are_read_in_a_few_boxes_only():
    """Since a file may have thousands of them, of thousands of entries each."""

    def box(kind, content):
        return struct.pack(">I4s", 8 + len(content), kind) + content

    def heic(empty_boxes):
        size = box(b"ipco", box(b"ispe", struct.pack(">III", 0, 40, 30)))
        others = box(b"ipma", struct.pack(">IIHB", 0, 1, 2, 0)) * empty_boxes
        associations = box(b"ipma", struct.pack(">IIHBB", 0, 1, 1, 1, 1))
        item = box(b"pitm", struct.pack(">IH", 0, 1))
        return box(b"meta", bytes(4) + item + box(b"iprp", size + others + associations))

    assert bmff.image_size(heic(15)) == (40, 30)
    with pytest.raises(ValueError, match="no size"):
        bmff.image_size(heic(16))


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\0", b"a", b"\0\xff\xff"])
def test_the_markers_of_a_jpeg_are_found_after_filling_of_any_length(filling):
    """As a decoder skips it."""
    data = image_files.make("JPEG")
    for length in (0, 1, 2, 254, 255, 256, 257, 16_382, 16_383, 16_384, 16_638, 16_639, 16_640, 100_000):
        padding = (filling * length)[:length].rstrip(b"\xff") if filling != b"\xff" else filling * length
        frame = jpeg_structure.walk(data[:2] + padding + data[2:]).frame
        assert (frame.width, frame.height) == (40, 30)
