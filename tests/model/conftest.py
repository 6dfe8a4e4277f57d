"""Keeps what the model's tests share: pictures as bytes, drawn data sets, and one small bundle."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from model import bundle as bundles
from model import classifier, manifest, networks, preprocess, selftest

# More threads only wait for each other on pictures this small, for minutes when the machine is busy.
torch.set_num_threads(1)

SHAPES = ("circle", "square", "stripes")


@pytest.fixture(scope="session")
def encoded():
    """Turns a Pillow picture into a file's bytes."""

    def encode(picture, form="PNG", **options):
        file = io.BytesIO()
        picture.save(file, form, **options)
        return file.getvalue()

    return encode


def drawn(shape, random):
    """A 48 x 48 picture with one bright shape, somewhere, on a dark background."""
    picture = Image.new("RGB", (48, 48), tuple(int(c) for c in random.integers(0, 80, 3)))
    draw, colour = ImageDraw.Draw(picture), tuple(int(c) for c in random.integers(150, 255, 3))
    x, y, size = (int(v) for v in (*random.integers(2, 14, 2), random.integers(20, 30)))
    if shape == "stripes":
        for line in range(0, 48, 8):
            draw.line((0, line + x % 8, 48, line + x % 8), colour, 3)
    else:
        (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + size, y + size), colour)
    return picture


@pytest.fixture
def photo():
    """A 320 x 240 picture whose quarters are red, green, blue and white."""
    picture = Image.new("RGB", (320, 240), "white")
    for corner, colour in (((0, 0), "red"), ((160, 0), "lime"), ((0, 120), "blue")):
        picture.paste(Image.new("RGB", (160, 120), colour), corner)
    return picture


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A folder per class with 20 drawn pictures each."""
    folder, random = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for shape in SHAPES:
        (folder / shape).mkdir()
        for number in range(20):
            drawn(shape, random).save(folder / shape / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def small_manifest():
    """A cookpad-cnn of three classes for 24 x 24 pixels, not yet saved."""
    return manifest.Manifest(
        name="shapes",
        version="1",
        network=manifest.Network("cookpad-cnn", 3, 24, 24),
        labels=SHAPES,
        preprocess=preprocess.Preprocess(24, 24),
        precision="float16",
        temperature=1.5,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.PICTURE, (1 / 3, 1 / 3, 1 / 3), 0.001),
    )


@pytest.fixture
def small_network():
    """Weights that were not trained, but differ from class to class."""
    torch.manual_seed(0)
    network = networks.build("cookpad-cnn", classes=3, height=24, width=24)
    torch.nn.init.normal_(network[-1].weight, std=0.1)
    return network


@pytest.fixture
def small_bundle(tmp_path, saved, small_network, small_manifest):
    """The folder of a bundle that loads and passes its self-test."""
    return saved(tmp_path / "shapes", small_network, small_manifest)


@pytest.fixture(scope="session")
def saved():
    """Writes a bundle whose self-test holds, and gives its folder."""

    def save(folder, network, about):
        stored = bundles.rounded(network, about)
        answer = selftest.record(classifier.Classifier(stored, "cpu", "float32"))
        bundles.save(folder, network, dataclasses.replace(about, selftest=answer), "# Shapes\n")
        return folder

    return save


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    """Training chooses for its whole process; the tests after it get torch back as it was."""
    yield
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
    if torch.are_deterministic_algorithms_enabled():  # asking is cheap, setting imports half of torch
        torch.use_deterministic_algorithms(mode=False)
