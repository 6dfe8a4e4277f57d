"""Preprocessing gives the pixels of plain calls of Pillow, bit by bit."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import baseline_loop
from core import settings
from model.packaging import manifest
from tests.support import image_files

CROPPING = {"sushi-or-sandwich": 224, "sushi-or-sandwich-small": 160}


def encode(form, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return image_files.encode(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), form)


@pytest.mark.parametrize("size", [(1600, 1200), (301, 200), (40, 90)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_published_network_sees_whole_images_shrunk_by_a_box_filter(form, size):
    """A JPEG is first decoded at a part of its sides, though at no less than twice the input and 256 pixels."""
    data, preprocess = encode(form, size), manifest.read(settings.BUNDLES_DIR / "cookpad-cnn").preprocess

    image = Image.open(io.BytesIO(data))
    image.draft(None, (256, 256))
    expected = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX))

    np.testing.assert_array_equal(preprocess.decode(data), expected)


@pytest.mark.parametrize("size", [(301, 200), (200, 301), (224, 224), (1600, 1200)])
@pytest.mark.parametrize("name", CROPPING)
def test_the_other_bundles_see_the_middle_of_an_image(name, size):
    """Seven eighths of the shorter side, as `ImageOps.fit` cuts it."""
    data, preprocess = encode("PNG", size), manifest.read(settings.BUNDLES_DIR / name).preprocess

    image = Image.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.fit(image, (CROPPING[name],) * 2, Image.Resampling.BICUBIC, bleed=1 / 16))

    np.testing.assert_array_equal(preprocess.decode(data), expected)


@pytest.mark.parametrize("name", ["cookpad-cnn", *CROPPING])
def test_the_plain_loop_of_the_benchmarks_preprocesses_as_the_bundle_says(name):
    """Otherwise its labels would not be comparable with the product's."""
    data, preprocess = encode("PNG", (500, 300)), manifest.read(settings.BUNDLES_DIR / name).preprocess

    plain = np.asarray(baseline_loop.preprocess_plainly(Image.open(io.BytesIO(data)), preprocess))

    np.testing.assert_array_equal(preprocess.decode(data), plain)
