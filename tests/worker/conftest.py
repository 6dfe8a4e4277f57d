"""What the tests of the worker share: pictures, blobs, and the bundle that the project ships."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from jobs import blobs, settings
from model import bundle


@pytest.fixture(scope="session")
def shipped():
    """The bundle that the project ships."""
    return bundle.load(settings.Settings().bundle)


@pytest.fixture
def store(tmp_path):
    """An empty folder of blobs."""
    return blobs.Folder(tmp_path / "blobs")


@pytest.fixture
def put(store):
    """Puts bytes into the store; their digest."""

    def put(data):
        sha256 = hashlib.sha256(data).hexdigest()
        store.put([(sha256, data)])
        return sha256

    return put


def drawn(number, form="JPEG", size=(120, 90)):
    """A good picture of noise and a colour; another number is another picture."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 255, (size[1] // 10 or 1, size[0] // 10 or 1, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="session")
def good():
    """Draws a good picture."""
    return drawn
