"""Every file becomes RGB pixels of one size, or is refused with a code and a sentence."""

import contextlib
import csv
import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import preprocess

HOSTILE = Path(__file__).parents[3] / "shared" / "data" / "hostile"
EIGHT = preprocess.Preprocess(8, 8)
CORNERS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def refused(data, **options):
    with pytest.raises(preprocess.BadPicture) as caught:
        preprocess.open_picture(data, **options)
    assert caught.value.detail.endswith((".", ")."))
    return caught.value.code


def corners(pixels):
    return [tuple(int(v) for v in pixels[y, x]) for y in (0, -1) for x in (0, -1)]


def png_header(width, height, depth=8, colour=2):
    """A PNG that promises a size and holds no pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_every_allowed_format_gives_the_same_picture(encoded, photo, form):
    options = {"lossless": True} if form == "WEBP" else {}
    pixels = EIGHT.pixels(encoded(photo, form, **options)).astype(int)

    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels - EIGHT.pixels(encoded(photo))).max() <= (6 if form == "JPEG" else 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK"])
def test_every_mode_becomes_rgb(encoded, mode):
    grey = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0))
    form = {"CMYK": "TIFF", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    source = Image.fromarray(np.array(grey, np.uint16) * 257) if mode == "I;16" else grey.convert(mode)

    picture = preprocess.open_picture(encoded(source, form))

    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.array(picture)[..., 0], [[0, 255], [0, 255]])


def test_lab_becomes_rgb(encoded):
    lab = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (255, 128, 128)])

    assert min(preprocess.open_picture(encoded(lab, "TIFF")).getpixel((0, 0))) >= 254


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(encoded, mode):
    clear = Image.new(mode, (4, 4), 0)

    assert preprocess.open_picture(encoded(clear)).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_white(encoded, mode):
    black = Image.new(mode, (4, 4), 0)
    data = encoded(black, transparency=(0, 0, 0) if mode == "RGB" else 0)

    assert preprocess.open_picture(data).getpixel((1, 1)) == (255, 255, 255)


def test_twelve_bits_in_sixteen_are_not_black(encoded):
    values = np.linspace(0, 4095, 64, dtype=np.uint16).reshape(8, 8)

    picture = np.array(preprocess.open_picture(encoded(Image.fromarray(values))))

    assert picture.min() == 0
    assert picture.max() == 255


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38])
def test_floats_that_are_no_numbers_do_not_spoil_the_rest(encoded, odd):
    values = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (8, 1))
    values[0, 0] = odd

    picture = np.array(preprocess.open_picture(encoded(Image.fromarray(values), "TIFF")))

    assert picture.min() == 0
    assert picture.max() == 255


def test_a_picture_of_nothing_but_nan_is_still_a_picture(encoded):
    values = np.full((4, 4), np.nan, np.float32)

    assert EIGHT.pixels(encoded(Image.fromarray(values), "TIFF")).shape == (8, 8, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_stands_upright(encoded, photo, form, orientation):
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo if turns[orientation] is None else photo.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation

    picture = preprocess.open_picture(encoded(stored, form, exif=exif, quality=95))

    assert picture.size == (320, 240)
    expected = np.array([CORNERS[name] for name in ("red", "lime", "blue", "white")])
    assert np.abs(np.array(corners(np.array(picture))) - expected).max() < 12


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(encoded, photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert preprocess.open_picture(encoded(photo, "JPEG", exif=exif)).size == (320, 240)


def test_broken_metadata_does_not_lose_a_good_picture(encoded, photo):
    data = encoded(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff\xff")

    assert preprocess.open_picture(data).size == (320, 240)


def test_of_an_animation_the_first_frame_counts(encoded):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])

    assert preprocess.open_picture(data).getpixel((0, 0)) == (255, 0, 0)


def test_area_is_averaged_when_a_picture_shrinks(encoded):
    checks = np.indices((16, 16)).sum(axis=0) % 2 * 254
    board = Image.fromarray(checks.astype(np.uint8))

    assert set(np.unique(EIGHT.pixels(encoded(board)))) == {127}


def test_a_large_jpeg_decodes_small_and_looks_the_same(encoded):
    y, x = np.mgrid[0:1600, 0:1200]
    smooth = np.stack([y * 255 // 1600, x * 255 // 1200, (x + y) % 256], axis=-1).astype(np.uint8)
    data = encoded(Image.fromarray(smooth), "JPEG", quality=95)

    small = preprocess.open_picture(data, at_least=(128, 128))
    exact = preprocess.open_picture(data).resize((8, 8), Image.Resampling.BOX)

    assert small.size == (150, 200)
    assert np.abs(EIGHT.pixels(data).astype(int) - np.array(exact)).max() <= 3


def test_a_small_network_sees_of_a_large_jpeg_nearly_what_all_of_it_shows(encoded):
    y, x = np.mgrid[0:900, 0:1100]
    stripes = Image.fromarray(((x // 5 + y // 7) % 2 * 255).astype(np.uint8))
    data = encoded(stripes, "JPEG")

    exact = preprocess.open_picture(data).resize((64, 64), Image.Resampling.BOX)

    # 0.4 of 255 levels; decoded at no more than twice 64 pixels it would be 2.2.
    assert np.abs(preprocess.Preprocess(64, 64).pixels(data).astype(int) - np.array(exact)).mean() < 1


def test_no_bytes_are_refused():
    assert refused(b"") == "empty"


@pytest.mark.parametrize(
    "data",
    [b"hello, I am a text file", b"PK\x03\x04" + bytes(100), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\0"],
)
def test_what_is_no_picture_of_ours_is_unsupported(data):
    assert refused(data) == "unsupported_format"


def test_a_format_that_pillow_knows_but_we_do_not_take_is_unsupported(encoded, photo):
    assert refused(encoded(photo, "PPM")) == "unsupported_format"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_half_a_file_is_refused(encoded, form, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)

    assert refused(data[: int(len(data) * share)]) in {"undecodable", "unsupported_format"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_flipped_bytes_never_raise_anything_else(encoded, photo, form):
    good, random = encoded(photo.resize((40, 30)), form), np.random.default_rng(0)
    decoded = 0
    for _ in range(60):
        data = bytearray(good)
        for position in random.integers(0, min(len(data), 400), 3):
            data[position] = random.integers(0, 256)
        with contextlib.suppress(preprocess.BadPicture):
            decoded += EIGHT.pixels(bytes(data)).shape == (8, 8, 3)

    assert 0 < decoded < 60


@pytest.mark.parametrize("size", [(12_000, 12_000), (9_000, 9_000), (2**31 - 1, 1), (16_385, 1)])
def test_a_header_that_promises_too_much_is_refused_before_anything_is_decoded(size):
    started = time.process_time()

    assert refused(png_header(*size)) == "too_large"
    assert time.process_time() - started < 0.5


def test_the_limit_of_pixels_is_the_callers(encoded, photo):
    assert refused(encoded(photo), max_pixels=320 * 240 - 1) == "too_large"
    assert preprocess.open_picture(encoded(photo), max_pixels=320 * 240).size == (320, 240)


def test_a_jpeg_with_a_thousand_scans_is_refused_quickly(encoded, photo):
    data = encoded(photo, "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    started = time.process_time()

    assert refused(data[:-2] + data[scan:-2] * 1000 + b"\xff\xd9") == "undecodable"
    assert time.process_time() - started < 1


def test_memory_that_runs_out_is_a_refusal(encoded, photo, monkeypatch):
    def hungry(*_):
        raise MemoryError

    monkeypatch.setattr(preprocess, "_rgb", hungry)

    assert refused(encoded(photo)) == "too_large"


def test_a_decoder_child_does_not_load_torch():
    code = "import sys; import model.preprocess, model.manifest; sys.exit('torch' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_importing_leaves_pillow_as_it_was():
    from PIL import ImageFile

    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_preprocessing_survives_json():
    shape = preprocess.Preprocess(224, 192, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))

    assert preprocess.Preprocess.from_json(shape.to_json()) == shape


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 64},
        {"width": 64, "height": 0},
        {"width": 64, "height": 64, "resample": "magic"},
        {"width": 64, "height": 64, "std": [1.0, 1.0, 0.0]},
        {"width": "64", "height": 64},
        {"width": 64, "height": 64, "crop": 0.9},
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match=r"\.$"):
        preprocess.Preprocess.from_json(fields)


def index():
    file = HOSTILE / "index.csv"
    return list(csv.DictReader(io.StringIO(file.read_text("utf-8")))) if file.exists() else []


@pytest.mark.skipif(not index(), reason="the corpus of hostile files is not beside this checkout")
def test_hostile_files_get_the_verdict_of_their_index_within_three_seconds():
    wrong = []
    for row in index():
        started = time.process_time()
        try:
            EIGHT.pixels((HOSTILE / row["name"]).read_bytes())
            verdict = "accept"
        except preprocess.BadPicture:
            verdict = "refuse"
        if verdict != row["policy_40mp"] or time.process_time() - started > 3:
            wrong.append((row["name"], verdict))

    assert wrong == []
