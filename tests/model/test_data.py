"""A folder per class becomes one set in memory, or is refused with what to do."""

import shutil

import numpy as np
import pytest

from model import data
from model.preprocess import Preprocess

SMALL = Preprocess(12, 10)


@pytest.fixture
def folder(shapes, tmp_path):
    """A set of its own that a test may spoil."""
    return shutil.copytree(shapes, tmp_path / "set")


def test_every_picture_is_decoded_once_with_its_class(shapes):
    ticks = []

    photos = data.read([shapes], SMALL, progress=lambda done, total: ticks.append((done, total)))

    assert photos.labels == ("circle", "square", "stripes")
    assert photos.counts() == {"circle": 20, "square": 20, "stripes": 20}
    assert photos.pixels.shape == (60, 10, 12, 3)
    assert ticks[-1] == (60, 60)
    for path, target, pixels in zip(photos.paths, photos.targets, photos.pixels, strict=True):
        assert path.parent.name == photos.labels[target]
        np.testing.assert_array_equal(pixels, SMALL.pixels(path.read_bytes()))


def test_unreadable_pictures_are_skipped_and_told(folder):
    (folder / "circle" / "text.jpg").write_text("no picture")
    (folder / "square" / "empty.png").touch()

    photos = data.read([folder], SMALL)

    assert len(photos) == 60
    told = {skipped.path.name: skipped.reason.split(":")[0] for skipped in photos.skipped}
    assert told == {"text.jpg": "unsupported_format", "empty.png": "empty"}


def test_a_picture_that_is_there_twice_counts_once(folder):
    shutil.copy(folder / "circle" / "00.png", folder / "circle" / "copy.png")

    photos = data.read([folder], SMALL)

    assert len(photos) == 60
    assert "the same file as" in photos.skipped[0].reason


def test_hidden_files_are_not_part_of_a_set(folder):
    (folder / "circle" / ".DS_Store").write_bytes(b"x")
    (folder / ".cache").mkdir()

    assert data.read([folder], SMALL).skipped == ()


def test_several_folders_are_one_set(shapes, folder):
    shutil.rmtree(folder / "stripes")
    for number, path in enumerate(sorted((folder / "circle").iterdir())):
        path.write_bytes(path.read_bytes() + bytes([number]))

    photos = data.read([shapes, folder], SMALL)

    assert photos.counts() == {"circle": 40, "square": 20, "stripes": 20}


def test_the_fingerprint_is_of_the_pictures_not_of_their_names(shapes, folder):
    before = data.read([shapes], SMALL).fingerprint
    (folder / "circle" / "00.png").rename(folder / "circle" / "zz.png")
    assert data.read([folder], SMALL).fingerprint == before

    (folder / "circle" / "zz.png").rename(folder / "square" / "zz.png")
    assert data.read([folder], SMALL).fingerprint != before


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(data.BadData, match="no folder"):
        data.read([tmp_path / "nothing"], SMALL)


def test_a_set_without_classes_is_refused(tmp_path):
    with pytest.raises(data.BadData, match="at least two"):
        data.read([tmp_path], SMALL)


def test_one_class_is_refused(shapes, tmp_path):
    shutil.copytree(shapes / "circle", tmp_path / "circle")

    with pytest.raises(data.BadData, match="at least two"):
        data.read([tmp_path], SMALL)


def test_an_empty_class_is_refused(folder):
    (folder / "triangle").mkdir()

    with pytest.raises(data.BadData, match=r"triangle is empty"):
        data.read([folder], SMALL)


def test_a_class_of_nothing_readable_is_refused(folder):
    (folder / "triangle").mkdir()
    (folder / "triangle" / "a.png").write_text("no picture")

    with pytest.raises(data.BadData, match=r"'triangle' can be read .*unsupported_format"):
        data.read([folder], SMALL)


def test_other_classes_than_the_expected_are_refused(shapes):
    with pytest.raises(data.BadData, match="instead of"):
        data.read([shapes], SMALL, labels=("circle", "square"))


def test_sets_are_joined_and_cut(shapes):
    photos = data.read([shapes], SMALL)
    few = photos.subset(np.array([0, 20, 40]))

    assert few.counts() == {"circle": 1, "square": 1, "stripes": 1}
    joined = data.join(photos, few)
    assert joined.counts() == {"circle": 21, "square": 21, "stripes": 21}
    assert joined.pixels.shape == (63, 10, 12, 3)
