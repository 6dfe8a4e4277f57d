"""A JPEG's scans are counted as a decoder meets them."""

import os
import time

import pytest
from PIL import Image

from model import jpeg


@pytest.fixture
def progressive(encoded):
    """The bytes of an ordinary progressive JPEG: ten scans."""
    return encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", progressive=True)


def repeated(data, times):
    scan = data.index(b"\xff\xda")
    return data[:-2] + data[scan:-2] * times + b"\xff\xd9"


def test_an_ordinary_progressive_jpeg_is_fine(progressive):
    assert jpeg.trouble(progressive) == ""


def test_scans_are_limited(progressive):
    assert jpeg.trouble(repeated(progressive, 8)) == ""
    assert "100 scans" in jpeg.trouble(repeated(progressive, 10))


def test_the_video_after_a_motion_photo_is_not_taken_for_scans(progressive):
    assert jpeg.trouble(progressive + b"\xff\xda\0\x08" * 500) == ""


def test_scans_inside_metadata_are_not_counted(encoded):
    comment = b"\xff\xda\0\x08" * 500
    data = encoded(Image.new("RGB", (8, 8)), "JPEG", comment=comment)

    assert jpeg.trouble(data) == ""


def test_metadata_without_end_is_refused():
    assert "segments" in jpeg.trouble(b"\xff\xd8" + b"\xff\xfe\0\x02" * 20_000)


@pytest.mark.parametrize("head", [b"\xff\xd8", b"\xff\xd8\xff\xda\0\x08", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xe1"])
def test_twenty_megabytes_of_rubbish_are_read_in_linear_time(head):
    started = time.process_time()

    jpeg.trouble(head + os.urandom(1_000_000) * 20)
    jpeg.trouble(head + b"\xff" * 20_000_000)
    jpeg.trouble(head + b"\xff\x00" * 10_000_000)
    assert time.process_time() - started < 3


def test_other_formats_are_not_looked_at():
    assert jpeg.trouble(b"GIF89a" + b"\xff\xda" * 1000) == ""
