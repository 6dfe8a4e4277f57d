"""Preprocessing gives the pixels of plain calls of Pillow, bit by bit."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import baseline_loop
from core import settings
from model.packaging import manifest

STRETCHING = ["cookpad-cnn", "sushi-or-sandwich-small"]  # the bundles from before there was a crop


def encode(form, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1600, 1200), (301, 200), (40, 90)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("name", STRETCHING)
def test_the_older_bundles_see_whole_images_shrunk_by_a_box_filter(name, form, size):
    """A JPEG is first decoded at a part of its sides, though at no less than twice the input and 256 pixels."""
    data, preprocess = encode(form, size), manifest.read(settings.BUNDLES_DIR / name).preprocess
    side = {"cookpad-cnn": 64, "sushi-or-sandwich-small": 160}[name]

    image = Image.open(io.BytesIO(data))
    image.draft(None, (max(2 * side, 256), max(2 * side, 256)))
    expected = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX))

    np.testing.assert_array_equal(preprocess.decode(data), expected)


@pytest.mark.parametrize("size", [(301, 200), (200, 301), (224, 224), (1600, 1200)])
def test_the_default_bundle_sees_the_middle_of_an_image(size):
    """Seven eighths of the shorter side, as `ImageOps.fit` cuts it."""
    data, preprocess = encode("PNG", size), manifest.read(settings.BUNDLES_DIR / "sushi-or-sandwich").preprocess

    image = Image.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.fit(image, (224, 224), Image.Resampling.BICUBIC, bleed=1 / 16))

    np.testing.assert_array_equal(preprocess.decode(data), expected)


@pytest.mark.parametrize("name", [*STRETCHING, "sushi-or-sandwich"])
def test_the_plain_loop_of_the_benchmarks_preprocesses_as_the_bundle_says(name):
    """Otherwise its labels would not be comparable with the product's."""
    data, preprocess = encode("PNG", (500, 300)), manifest.read(settings.BUNDLES_DIR / name).preprocess

    plain = np.asarray(baseline_loop.preprocess_plainly(Image.open(io.BytesIO(data)), preprocess))

    np.testing.assert_array_equal(preprocess.decode(data), plain)
