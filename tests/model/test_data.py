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
    assert photos.take(slice(None)).shape == (60, 10, 12, 3)
    assert ticks[-1] == (60, 60)
    for path, target, pixels in zip(photos.paths, photos.targets, photos.take(slice(None)), strict=True):
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


def test_a_class_of_nothing_readable_is_refused(folder):
    (folder / "triangle").mkdir()
    (folder / "triangle" / "a.png").write_text("no picture")

    with pytest.raises(data.BadData, match=r"'triangle' can be read .*unsupported_format"):
        data.read([folder], SMALL)


def test_a_subset_is_not_copied(shapes):
    photos = data.read([shapes], SMALL)
    few = photos.subset(np.array([0, 20, 40]))

    assert few.counts() == {"circle": 1, "square": 1, "stripes": 1}
    assert few.pixels is photos.pixels
    np.testing.assert_array_equal(few.take(np.array([2])), photos.take(slice(40, 41)))


def test_the_same_pictures_are_the_same_set_whatever_their_names(shapes, folder):
    for number, path in enumerate(sorted((folder / "square").iterdir(), reverse=True)):
        path.rename(path.with_name(f"renamed-{number:03}.png"))

    renamed, named = data.read([folder], SMALL), data.read([shapes], SMALL)

    assert renamed.digests == named.digests
    np.testing.assert_array_equal(renamed.take(slice(None)), named.take(slice(None)))


def test_what_another_set_has_is_left_out(shapes, folder):
    (folder / "circle" / "new.png").write_bytes((folder / "circle" / "00.png").read_bytes() + b"new")
    held = data.read([shapes], SMALL).digests[::2]

    extra = data.read([folder], SMALL, without=held)

    assert len(extra) == 31
    assert set(extra.digests).isdisjoint(held)
    assert all("held out" in skipped.reason for skipped in extra.skipped)


def test_a_file_of_two_classes_counts_for_the_first_and_is_told(folder):
    shutil.copy(folder / "circle" / "00.png", folder / "square" / "copy.png")

    photos = data.read([folder], SMALL)

    assert photos.counts() == {"circle": 20, "square": 20, "stripes": 20}
    assert "of another class" in photos.skipped[0].reason


def test_a_big_set_lies_in_a_file_without_a_name(shapes, tmp_path, monkeypatch):
    small = data.read([shapes], SMALL)
    monkeypatch.setattr(data, "MOST_IN_MEMORY", 1000)

    big = data.read([shapes], SMALL, scratch=tmp_path)

    assert isinstance(big.pixels, np.memmap)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(big.take(slice(None)), small.take(slice(None)))
