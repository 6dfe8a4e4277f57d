import csv
import warnings

import pytest

from core import errors
from core.intake import header_check
from imaging import formats
from tests.support import factories, image_files

LIMITS = {"max_bytes": 20_000_000, "max_pixels": 40_000_000}


def refused(data, **limits):
    """Return the code with which an image is rejected."""
    with pytest.raises(errors.ImageFailed) as caught:
        header_check.check_header(data, **(LIMITS | limits))
    assert caught.value.detail.endswith(".")
    return caught.value.code


@pytest.mark.parametrize("form", formats.FORMATS)
def test_every_format_that_we_name_is_taken(form):
    """Each by its content."""
    assert header_check.check_header(image_files.make(form), **LIMITS) is None


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "JPEG2000", "PCX", "SGI", "DDS", "EPS", "PDF"])
def test_every_other_format_is_refused(form):
    """Other formats that Pillow can open are not supported."""
    assert refused(image_files.make(form, (8, 8), "black")) == "unsupported_format"


@pytest.mark.parametrize(
    "data", [b"I am a text.", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\3\4" * 50, b"\0" * 1000, b"%PDF-1.7"]
)
def test_other_files_than_images_are_rejected(data):
    """By its content, whatever it is called."""
    assert refused(data) == "unsupported_format"


def test_an_empty_file_is_empty():
    """It has a code of its own."""
    assert refused(b"") == "empty"


def test_the_limit_in_bytes_is_exact():
    """At the limit yes, one beyond no."""
    data = factories.make_image()
    header_check.check_header(data, max_bytes=len(data), max_pixels=10**6)
    assert refused(data, max_bytes=len(data) - 1) == "too_large"


@pytest.mark.parametrize(
    ("width", "height", "fine"),
    [
        (8000, 5000, True),
        (8000, 5001, False),
        (65_535, 1, True),
        (65_536, 1, False),
        (1, 65_536, False),
        (9_000, 9_000, False),
        (10_000, 10_000, False),
        (12_000, 12_000, False),
        (16_000, 16_000, False),
        (65_535, 65_535, False),
        (2_147_483_647, 2_147_483_647, False),
    ],
)
def test_the_header_s_promise_is_weighed_before_anything_is_decoded(width, height, fine):
    """Forty megapixels, and 65,535 on a side; also where Pillow itself would warn or refuse."""
    if fine:
        header_check.check_header(image_files.make_png(width, height), **LIMITS)
    else:
        assert refused(image_files.make_png(width, height)) == "too_large"


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (0, 0)])
def test_an_image_without_pixels_is_rejected(width, height):
    """Nothing to see."""
    assert refused(image_files.make_png(width, height)) in ("undecodable", "unsupported_format")


def verdict(data):
    """Return the code of a rejection, valid for storage; None for an accepted image. Other errors are raised."""
    try:
        header_check.check_header(data, **LIMITS)
    except errors.ImageFailed as error:
        return error.code if 0 < len(error.detail) <= 1000 and "\0" not in error.detail else error.detail
    return None


KNOWN = {None, "empty", "unsupported_format", "undecodable", "too_large"}


@pytest.mark.parametrize("form", formats.FORMATS)
def test_every_header_that_is_cut_off_is_judged(form):
    """Wherever a file ends: taken (its end is the decoder's business) or refused, never an accident."""
    data = image_files.make(form)
    assert {verdict(data[:end]) for end in range(min(len(data), 700))} <= KNOWN


@pytest.mark.parametrize("form", formats.FORMATS)
def test_every_header_with_a_flipped_byte_is_judged(form):
    """Each byte of the first hundred and fifty, turned over."""
    data = image_files.make(form)
    flipped = [data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] for at in range(min(len(data), 150))]
    assert {verdict(broken) for broken in flipped} <= KNOWN


def test_odd_metadata_does_not_change_the_verdict():
    """An image is rejected for its content, not because Pillow warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(image_files.make_png(10_000, 10_000)) == "too_large"


def test_hostile_files_are_taken_or_refused_and_nothing_else(shared_dir):
    """Every file of the collection; what is known to be fine is taken."""
    folder = shared_dir / "data" / "hostile"
    with (folder / "index.csv").open(newline="") as file:
        index = {row["name"]: row for row in csv.DictReader(file)}
    assert len(index) > 100
    verdicts = {name: verdict((folder / name).read_bytes()) for name in index}
    assert set(verdicts.values()) <= KNOWN
    wrong = {name: code for name, code in verdicts.items() if code and index[name]["policy_40mp"] == "accept"}
    assert wrong == {}
