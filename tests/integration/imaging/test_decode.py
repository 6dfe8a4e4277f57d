"""Every file becomes the right pixels, or is refused by what it is."""

import io
import itertools
import random
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from api.services import thumbnail_child
from imaging import decode, errors, tiff
from tests.support import image_files, image_variants

SAMPLE = Image.fromarray(image_variants.COLOUR)


def code(data, **options):
    """Return the error code of a file, or None if it is decoded."""
    try:
        decode.open_image(data, **options)
    except errors.ImageDecodeError as error:
        return error.code
    return None


def header_code(data):
    """Return the error code of a file's header check, or None if it is accepted."""
    try:
        decode.check_header(data)
    except errors.ImageDecodeError as error:
        return error.code
    return None


@pytest.mark.parametrize("variant", image_variants.all_variants(), ids=lambda v: f"{v.image_format}, {v.name}")
def test_a_variant_has_the_right_pixels_or_is_refused(variant):
    """Against the pixels that another library encoded."""
    if variant.pixels is None:
        assert code(variant.data) in ("unsupported_format", "undecodable", "truncated")
    else:
        assert variant.is_right(decode.open_image(variant.data))


def sample_values(kind, bits, colour):
    """Return the values of samples from 0 to 1 in a data type, and the data type's highest value."""
    dtype = {"u": {32: np.uint32, 16: np.uint16}, "i": {8: np.int8, 16: np.int16, 32: np.int32}}.get(kind, {}).get(bits)
    dtype = np.dtype(dtype or (np.float32 if kind == "f" else np.uint8 if bits <= 8 else np.uint16))
    highest = 1.0 if kind == "f" else 2 ** (bits - (kind == "i")) - 1
    return (colour / 255 * highest).round(0 if kind != "f" else 6).astype(dtype), highest


TIFF_COMBINATIONS = [
    (photometric, kind_bits, planar, compression, extra, order)
    for photometric, kind_bits, planar, compression, extra, order in itertools.product(
        ("minisblack", "miniswhite", "rgb", "separated"),
        ("u1", "u2", "u4", "u8", "u12", "u16", "u32", "i8", "i16", "i32", "f32"),
        ("contig", "separate"),
        (None, "lzw", "deflate", "packbits", "zstd"),
        (None, "unassalpha"),
        "<>",
    )
]


def test_every_combination_of_tiff_is_right_or_refused():
    """Samples, planes, compressions and byte orders, as far as the other library writes them: no garbage, no guess."""
    wrong, decoded, refused = [], 0, 0
    for combination in TIFF_COMBINATIONS:
        written = write_tiff(*combination)
        if written is None:
            continue
        data, expected = written
        try:
            pixels = np.asarray(decode.open_image(data)).astype(float)
        except errors.ImageDecodeError as error:
            refused += 1
            if error.code != "unsupported_format":
                wrong.append((combination, str(error)))
            if header_code(data) != "unsupported_format":
                wrong.append((combination, "accepted by the header check"))
            continue
        decoded += 1
        if np.abs(pixels - expected).max() > 3:
            wrong.append((combination, "pixels"))
    assert wrong == []
    assert decoded > 80
    assert refused > 200


def write_tiff(photometric, kind_bits, planar, compression, extra, order):
    """Return a TIFF and the pixels that it should decode to; None if the other library cannot write it."""
    kind, bits = kind_bits[0], int(kind_bits[1:])
    colour = image_variants.COLOUR[:16, :24].astype(float)
    samples = {"rgb": colour, "separated": np.concatenate([255 - colour, np.zeros((16, 24, 1))], -1)}
    values = samples.get(photometric, colour[..., 0])
    if bits == 1:
        values = (values > 127) * 255.0
    stored, highest = sample_values(kind, bits, 255 - values if photometric == "miniswhite" else values)
    expected = stored.astype(float) / highest * 255
    expected = 255 - expected if photometric in ("miniswhite", "separated") else expected
    if expected.ndim == 3:
        expected = expected[..., :3]
    else:
        if bits > 8 or kind != "u":
            expected = (expected - expected.min()) / np.ptp(expected) * 255
        expected = np.repeat(expected[..., None], 3, -1)
    options = {"extrasamples": [extra]} if extra else {}
    if extra:
        alpha = np.full((16, 24, 1), highest, stored.dtype)
        alpha[:4], expected[:4] = 0, 255
        stored = np.concatenate([stored if stored.ndim == 3 else stored[..., None], alpha], -1)
    if stored.ndim == 3 and planar == "separate":
        stored = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
    file = io.BytesIO()
    try:
        tifffile.imwrite(
            file,
            stored,
            photometric=photometric,
            planarconfig=planar if stored.ndim == 3 else None,
            compression=compression,
            bitspersample=bits if kind == "u" and stored.dtype.itemsize * 8 != bits else None,
            byteorder=order,
            metadata=None,
            **options,
        )
    except Exception:  # noqa: BLE001 - it says by many types what it cannot write
        return None
    return file.getvalue(), expected


def with_segment(marker, content):
    data = image_files.encode(SAMPLE, "JPEG")
    return data[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def with_webp_chunk(kind, content, length):
    data = image_files.encode(SAMPLE, "WebP")
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:] + kind + struct.pack("<I", length) + content


def with_tiff_tag(tag, kind, count, value):
    data = image_files.encode(SAMPLE, "TIFF")
    entries = [entry for *_, entry in tiff.read_directory(data).entries]
    entries = sorted([*entries, struct.pack("<HHII", tag, kind, count, value)], key=lambda e: e[:2][::-1])
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def broken_metadata():
    """Yield files whose pixels are fine and whose metadata is random, too long, or has a wrong check sum."""
    rng = random.Random(1)  # noqa: S311 (not for cryptography)
    exif = Image.Exif()
    exif[0x010F] = "made by a test " * 4
    avif = image_files.encode(SAMPLE, "AVIF", exif=exif.tobytes())
    made = avif.index(b"made by")
    for _ in range(40):
        noise = rng.randbytes(rng.randrange(200))
        for marker, head in (
            (0xE1, b"Exif\0\0MM\0*"),
            (0xE2, b"ICC_PROFILE\0"),
            (0xE2, b"MPF\0II*\0"),
            (0xED, b"Photoshop 3.0\0"),
        ):
            yield with_segment(marker, head + noise)
        for kind in (b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"gAMA", b"tIME", b"acTL"):
            yield image_variants.png_with_chunk(kind, noise)
            yield image_variants.png_with_chunk(kind, noise, crc=1)
        for kind in (b"EXIF", b"XMP ", b"ICCP"):
            yield with_webp_chunk(kind, noise, rng.choice([len(noise), 2**31]))
        for tag in (270, 305, 700, 33723, 34377, 34665, 34675):
            yield with_tiff_tag(
                tag, rng.choice([1, 2, 5, 7, 99]), rng.choice([1, 10**5, 2**31]), rng.choice([8, 2**31])
            )
        yield avif[: made - 20] + (noise + bytes(40))[:40] + avif[made + 20 :]
    for kind, head in ((b"iCCP", b"k\0\0"), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        yield image_variants.png_with_chunk(kind, head + zlib.compress(bytes(3_000_000)))


def test_broken_metadata_does_not_refuse_an_image():
    """Neither in the header check nor in the decoder."""
    for data in broken_metadata():
        decode.check_header(data)
        assert np.abs(np.asarray(decode.open_image(data)).astype(int) - image_variants.COLOUR).max() < 60


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_blocks": 4}, {"progressive": True}])
@pytest.mark.parametrize("end_marker", [b"", b"\xff\xd9", b"\xff"])
def test_a_jpeg_of_which_less_than_nine_tenths_came_is_truncated(options, end_marker):
    """However it ends; the share is reported."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8))
    data = image_files.encode(noise, "JPEG", **options)
    start = data.index(b"\xff\xda")
    for share, expected in ((0.02, "truncated"), (0.5, "truncated"), (0.96, None), (1, None)):
        assert code(data[: start + int((len(data) - 2 - start) * share)] + end_marker) == expected
    with pytest.raises(errors.ImageDecodeError, match=r"The file has only [45][0-9] % of the image data"):
        decode.open_image(data[: start + (len(data) - start) // 2] + end_marker)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_an_image_that_ends_in_grey_is_not_truncated(options):
    """The grey of missing data may also be in an image."""
    pixels = np.full((200, 200, 3), 128, np.uint8)
    pixels[:60] = np.random.default_rng(0).integers(0, 256, (60, 200, 3))

    assert code(image_files.encode(Image.fromarray(pixels), "JPEG", **options)) is None


@pytest.mark.parametrize("size", [(16_320, 12_240), (65_500, 600)])
def test_a_jpeg_of_a_phone_or_a_panorama_is_decoded_at_a_reduced_size(size):
    """200 megapixels, and as wide as a JPEG can be, within the limit on decoded pixels."""
    data = image_files.encode(Image.new("L", size, 90), "JPEG")
    image = decode.open_image(data, min_size=(256, 256))

    assert image.width * image.height <= 20_000_000
    assert image.getpixel((5, 5)) == (90, 90, 90)


def test_the_limit_is_on_decoded_pixels():
    """A JPEG is decoded smaller to be within it, other formats are refused."""
    image = Image.linear_gradient("L").resize((800, 400))

    assert decode.open_image(image_files.encode(image, "JPEG"), max_pixels=100_000).size == (400, 200)
    for image_format in ("PNG", "HEIC", "AVIF", "JPEG XL"):
        assert code(image_files.encode(image, image_format), max_pixels=100_000) == "too_large"


def test_thumbnails_and_decoders_turn_an_image_alike():
    """Also by EXIF data that is partly broken."""
    rng, exif = random.Random(3), Image.Exif()  # noqa: S311 (not for cryptography)
    exif[0x0112], exif[0x010F] = 6, "Maker"
    turned = 0
    for _ in range(60):
        broken = bytearray(exif.tobytes())
        broken[rng.randrange(10, len(broken))] = rng.randrange(256)
        data = image_files.encode(SAMPLE, "JPEG", exif=bytes(broken))
        size = decode.open_image(data).size
        with Image.open(
            io.BytesIO(thumbnail_child.render(data, thumbnail_child.THUMBNAIL, max_pixels=10**6))
        ) as thumbnail:
            assert thumbnail.size == size
        turned += size[0] < size[1]
    assert turned > 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_and_avif_are_turned_by_their_container(orientation):
    """The EXIF orientation in the file is not applied a second time."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    for image_format in ("HEIF", "AVIF"):
        image = decode.open_image(image_files.encode(SAMPLE, image_format, exif=exif.tobytes(), quality=95))
        expected = decode.open_image(image_files.encode(SAMPLE, "PNG", exif=exif))
        assert image.size == expected.size
        assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() < 40
