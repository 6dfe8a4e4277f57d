"""A JPEG's scans are counted in the way of a decoder."""

import os
import time

import pytest
from PIL import Image

from imaging import jpeg_structure
from tests.support import image_files


@pytest.fixture
def progressive_jpeg(encode_image):
    """Return an ordinary progressive JPEG with ten scans."""
    return encode_image(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", progressive=True)


def test_an_ordinary_progressive_jpeg_is_fine(progressive_jpeg):
    assert jpeg_structure.walk(progressive_jpeg).problem == ""


def test_scans_are_limited(progressive_jpeg):
    assert jpeg_structure.walk(image_files.with_repeated_scans(progressive_jpeg, 81)).problem == ""
    assert "100 scans" in jpeg_structure.walk(image_files.with_repeated_scans(progressive_jpeg, 101)).problem


def test_the_video_of_a_motion_photo_does_not_count_as_scans(progressive_jpeg):
    assert jpeg_structure.walk(progressive_jpeg + b"\xff\xda\0\x08" * 500).problem == ""


def test_scans_inside_metadata_are_not_counted(encode_image):
    comment = b"\xff\xda\0\x08" * 500
    data = encode_image(Image.new("RGB", (8, 8)), "JPEG", comment=comment)

    assert jpeg_structure.walk(data).problem == ""


def test_endless_metadata_is_rejected():
    assert "segments" in jpeg_structure.walk(b"\xff\xd8" + b"\xff\xfe\0\x02" * 20_000).problem


@pytest.mark.parametrize("head", [b"\xff\xd8", b"\xff\xd8\xff\xda\0\x08", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xe1"])
def test_twenty_megabytes_of_garbage_are_read_in_linear_time(head):
    started = time.process_time()

    jpeg_structure.walk(head + os.urandom(1_000_000) * 20)
    jpeg_structure.walk(head + b"\xff" * 20_000_000)
    jpeg_structure.walk(head + b"\xff\x00" * 10_000_000)
    assert time.process_time() - started < 3
