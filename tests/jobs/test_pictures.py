import csv
import io
import struct
import warnings
import zlib

import pytest
from PIL import Image

from jobs import errors, pictures
from tests.jobs import making

LIMITS = {"max_bytes": 20_000_000, "max_pixels": 40_000_000}


def png(width, height):
    """A PNG of which there is only the header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    data = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data + end


def refused(data, **limits):
    """The code with which a picture is refused."""
    with pytest.raises(errors.BadPicture) as caught:
        pictures.inspect(data, **(LIMITS | limits))
    assert caught.value.detail.endswith(".")
    return caught.value.code


@pytest.mark.parametrize("form", pictures.FORMATS)
def test_every_format_that_we_name_is_taken(form):
    """Six formats, each by its content."""
    assert pictures.inspect(making.picture(form=form), **LIMITS) is None


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "JPEG2000", "PCX", "SGI", "DDS", "EPS", "PDF"])
def test_every_other_format_is_refused(form):
    """What Pillow could open besides is none of ours."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, form)
    assert refused(file.getvalue()) == "unsupported_format"


@pytest.mark.parametrize(
    "data", [b"I am a text.", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\3\4" * 50, b"\0" * 1000, b"%PDF-1.7"]
)
def test_what_is_no_picture_is_refused(data):
    """By its content, whatever it is called."""
    assert refused(data) == "unsupported_format"


def test_an_empty_file_is_empty():
    """It has a code of its own."""
    assert refused(b"") == "empty"


def test_the_limit_in_bytes_is_exact():
    """At the limit yes, one beyond no."""
    data = making.picture()
    pictures.inspect(data, max_bytes=len(data), max_pixels=10**6)
    assert refused(data, max_bytes=len(data) - 1) == "too_large"


@pytest.mark.parametrize(
    ("width", "height", "fine"),
    [
        (8000, 5000, True),
        (8000, 5001, False),
        (16_384, 1, True),
        (16_385, 1, False),
        (1, 16_385, False),
        (9_000, 9_000, False),
        (10_000, 10_000, False),
        (12_000, 12_000, False),
        (16_000, 16_000, False),
        (65_535, 65_535, False),
        (2_147_483_647, 2_147_483_647, False),
    ],
)
def test_the_header_s_promise_is_weighed_before_anything_is_decoded(width, height, fine):
    """Forty megapixels, and 16,384 on a side; also where Pillow itself would warn or refuse."""
    if fine:
        pictures.inspect(png(width, height), **LIMITS)
    else:
        assert refused(png(width, height)) == "too_large"


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(width, height):
    """Nothing to see."""
    assert refused(png(width, height)) in ("undecodable", "unsupported_format")


def verdict(data):
    """The code of a refusal, fit to be stored; None where a picture is taken. Anything else comes through."""
    try:
        pictures.inspect(data, **LIMITS)
    except errors.BadPicture as error:
        return error.code if 0 < len(error.detail) <= 1000 and "\0" not in error.detail else error.detail
    return None


KNOWN = {None, "empty", "unsupported_format", "undecodable", "too_large"}


@pytest.mark.parametrize("form", pictures.FORMATS)
def test_every_header_that_is_cut_off_is_judged(form):
    """Wherever a file ends: taken (its end is the decoder's business) or refused, never an accident."""
    data = making.picture(form=form)
    assert {verdict(data[:end]) for end in range(min(len(data), 700))} <= KNOWN


@pytest.mark.parametrize("form", pictures.FORMATS)
def test_every_header_with_a_flipped_byte_is_judged(form):
    """Each byte of the first hundred and fifty, turned over."""
    data = making.picture(form=form)
    flipped = [data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] for at in range(min(len(data), 150))]
    assert {verdict(broken) for broken in flipped} <= KNOWN


def test_odd_metadata_does_not_change_the_verdict():
    """A picture is refused for what it is, not because Pillow had something to remark."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(png(10_000, 10_000)) == "too_large"


def test_hostile_files_are_taken_or_refused_and_nothing_else(shared):
    """Every file of the collection; what is known to be fine is taken."""
    folder = shared / "data" / "hostile"
    with (folder / "index.csv").open(newline="") as file:
        index = {row["name"]: row for row in csv.DictReader(file)}
    assert len(index) > 100
    verdicts = {name: verdict((folder / name).read_bytes()) for name in index}
    assert set(verdicts.values()) <= KNOWN
    wrong = {name: code for name, code in verdicts.items() if code and index[name]["policy_40mp"] == "accept"}
    assert wrong == {}
