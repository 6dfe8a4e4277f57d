"""Fixtures for the worker's tests: images, a blob store, and the shipped bundle."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from core import settings
from core.storage import local
from model.packaging import bundle
from tests.support import image_files


@pytest.fixture(scope="session")
def shipped_bundle():
    """Load the default bundle that Sortbelt ships."""
    return bundle.load(settings.Settings().default_bundle)


@pytest.fixture
def blob_store(tmp_path):
    """Return an empty blob store."""
    return local.LocalBlobStore(tmp_path / "blobs")


@pytest.fixture
def put_blob(blob_store):
    """Return a function that stores bytes and returns their SHA-256."""

    def put(data):
        sha256 = hashlib.sha256(data).hexdigest()
        blob_store.put([(sha256, data)])
        return sha256

    return put


def draw_image(number, image_format="JPEG", size=(120, 90)):
    """Return a valid image file with noise, a different one for each number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 255, (size[1] // 10 or 1, size[0] // 10 or 1, 3), dtype=np.uint8)
    return image_files.encode(Image.fromarray(pixels).resize(size), image_format)


@pytest.fixture(scope="session")
def make_jpeg():
    """Return `draw_image`."""
    return draw_image
