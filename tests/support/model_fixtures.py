"""Fixtures for the model's tests: image files, drawn data sets, and a small bundle."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from model.inference import classifier, selftest
from model.networks import factory
from model.packaging import bundle as bundles
from model.packaging import manifest
from model.preprocessing import decode
from tests.support import image_files

# On images this small, more threads only wait for each other, for minutes when the machine is busy.
torch.set_num_threads(1)

SHAPES = ("circle", "square", "stripes")


@pytest.fixture(scope="session")
def encode_image():
    """Return a function that encodes a Pillow image as a file."""
    return image_files.encode


def draw_shape(shape, rng):
    """Draw a 48 x 48 image with one bright shape at a random place on a dark background."""
    image = Image.new("RGB", (48, 48), tuple(int(c) for c in rng.integers(0, 80, 3)))
    draw, color = ImageDraw.Draw(image), tuple(int(c) for c in rng.integers(150, 255, 3))
    x, y, size = (int(v) for v in (*rng.integers(2, 14, 2), rng.integers(20, 30)))
    if shape == "stripes":
        for line in range(0, 48, 8):
            draw.line((0, line + x % 8, 48, line + x % 8), color, 3)
    else:
        (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + size, y + size), color)
    return image


@pytest.fixture
def quadrant_image():
    """Return a 320 x 240 image whose quadrants are red, green, blue and white."""
    image = Image.new("RGB", (320, 240), "white")
    for corner, color in (((0, 0), "red"), ((160, 0), "lime"), ((0, 120), "blue")):
        image.paste(Image.new("RGB", (160, 120), color), corner)
    return image


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory):
    """Create a data set: a folder per class with 20 drawn images each."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for shape in SHAPES:
        (folder / shape).mkdir()
        for number in range(20):
            draw_shape(shape, rng).save(folder / shape / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def small_manifest():
    """Return the manifest of a cookpad-cnn with three classes and 24 x 24 pixels, not saved."""
    return manifest.Manifest(
        name="shapes",
        version="1",
        network=manifest.NetworkSpec("cookpad-cnn", 3, 24, 24),
        labels=SHAPES,
        preprocess=decode.Preprocess(24, 24),
        precision="float16",
        temperature=1.5,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.IMAGE_NAME, (1 / 3, 1 / 3, 1 / 3), 0.001),
    )


@pytest.fixture
def small_network():
    """Return an untrained network whose weights differ from class to class."""
    torch.manual_seed(0)
    network = factory.build("cookpad-cnn", classes=3, height=24, width=24)
    torch.nn.init.normal_(network[-1].weight, std=0.1)
    return network


@pytest.fixture
def small_bundle(tmp_path, save_bundle, small_network, small_manifest):
    """Save a bundle that passes its self-test; return its folder."""
    return save_bundle(tmp_path / "shapes", small_network, small_manifest)


@pytest.fixture(scope="session")
def save_bundle():
    """Return a function that saves a bundle with a recorded self-test, and returns its folder."""

    def save(folder, network, bundle_manifest):
        stored = bundles.round_to_stored(network, bundle_manifest)
        recorded = selftest.record(classifier.Classifier(stored, "cpu", "float32"))
        bundles.save(folder, network, dataclasses.replace(bundle_manifest, selftest=recorded), "# Shapes\n")
        return folder

    return save


@pytest.fixture(autouse=True)
def _restore_torch():
    """Restore torch's global settings, which training changes."""
    yield
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
    if torch.are_deterministic_algorithms_enabled():  # reading is cheap, but setting imports much of torch
        torch.use_deterministic_algorithms(mode=False)
