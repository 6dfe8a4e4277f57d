"""A folder per class becomes one data set in memory; an invalid one is rejected with a message that says what to do."""

import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from model.datasets import corrections, dataset
from model.packaging import atomic_files
from model.preprocessing.decode import Preprocess

SMALL = Preprocess(12, 10)


@pytest.fixture
def class_folder(shapes_dir, tmp_path):
    """Return a copy of the data set that a test may change."""
    return shutil.copytree(shapes_dir, tmp_path / "set")


def test_every_image_is_decoded_once_with_its_class(shapes_dir):
    ticks = []

    (images,) = dataset.read_each([shapes_dir], [SMALL], on_image=lambda: ticks.append(1))

    assert images.labels == ("circle", "square", "stripes")
    assert images.class_counts() == {"circle": 20, "square": 20, "stripes": 20}
    assert images.pixels_at(slice(None)).shape == (60, 10, 12, 3)
    assert len(ticks) == 60
    for path, target, pixels in zip(images.paths, images.targets, images.pixels_at(slice(None)), strict=True):
        assert path.parent.name == images.labels[target]
        np.testing.assert_array_equal(pixels, SMALL.decode(path.read_bytes()))


def test_unreadable_images_are_skipped_with_a_reason(class_folder):
    (class_folder / "circle" / "text.jpg").write_text("not an image")
    (class_folder / "square" / "empty.png").touch()

    images = dataset.read([class_folder], SMALL)

    assert len(images) == 60
    reasons = {skipped.path.name: skipped.reason.split(":")[0] for skipped in images.skipped}
    assert reasons == {"text.jpg": "unsupported_format", "empty.png": "empty"}


def test_a_duplicate_counts_once(class_folder):
    shutil.copy(class_folder / "circle" / "00.png", class_folder / "circle" / "copy.png")

    images = dataset.read([class_folder], SMALL)

    assert len(images) == 60
    assert "the same image as" in images.skipped[0].reason


def test_hidden_files_are_not_part_of_a_set(class_folder):
    (class_folder / "circle" / ".DS_Store").write_bytes(b"x")
    (class_folder / ".cache").mkdir()

    assert dataset.read([class_folder], SMALL).skipped == ()


def test_several_folders_are_one_set(shapes_dir, class_folder):
    shutil.rmtree(class_folder / "stripes")
    for path in (class_folder / "circle").iterdir():
        ImageOps.invert(Image.open(path)).save(path)

    images = dataset.read([shapes_dir, class_folder], SMALL)

    assert images.class_counts() == {"circle": 40, "square": 20, "stripes": 20}


def test_the_fingerprint_depends_on_the_images_and_not_on_their_names(shapes_dir, class_folder):
    before = dataset.read([shapes_dir], SMALL).fingerprint
    (class_folder / "circle" / "00.png").rename(class_folder / "circle" / "zz.png")
    assert dataset.read([class_folder], SMALL).fingerprint == before

    (class_folder / "circle" / "zz.png").rename(class_folder / "square" / "zz.png")
    assert dataset.read([class_folder], SMALL).fingerprint != before


def test_a_class_without_a_readable_image_is_rejected(class_folder):
    (class_folder / "triangle").mkdir()
    (class_folder / "triangle" / "a.png").write_text("not an image")

    with pytest.raises(dataset.InvalidDataset, match=r"'triangle' has no readable image .*unsupported_format"):
        dataset.read([class_folder], SMALL)


def test_a_subset_is_not_copied(shapes_dir):
    images = dataset.read([shapes_dir], SMALL)
    subset = images.subset(np.array([0, 20, 40]))

    assert subset.class_counts() == {"circle": 1, "square": 1, "stripes": 1}
    assert subset.pixels is images.pixels
    np.testing.assert_array_equal(subset.pixels_at(np.array([2])), images.pixels_at(slice(40, 41)))


def test_a_data_set_does_not_depend_on_file_names(shapes_dir, class_folder):
    for number, path in enumerate(sorted((class_folder / "square").iterdir(), reverse=True)):
        path.rename(path.with_name(f"renamed-{number:03}.png"))

    renamed, named = dataset.read([class_folder], SMALL), dataset.read([shapes_dir], SMALL)

    assert renamed.digests == named.digests
    np.testing.assert_array_equal(renamed.pixels_at(slice(None)), named.pixels_at(slice(None)))


def test_files_of_another_set_are_skipped(shapes_dir, class_folder):
    Image.new("RGB", (48, 48), "red").save(class_folder / "circle" / "new.png")
    with (class_folder / "circle" / "00.png").open("ab") as file:
        file.write(b"other bytes, the same pixels")
    held_out = dataset.read([shapes_dir], SMALL).subset(np.arange(0, 60, 2))

    (extra,) = dataset.read_each([class_folder], [SMALL], exclude=[held_out])

    assert len(extra) == 31
    assert set(extra.pixel_digests).isdisjoint(held_out.pixel_digests)
    assert all("held out" in skipped.reason for skipped in extra.skipped)


def _copy(source, target):
    shutil.copy(source, target)


def _save_with_other_bytes(source, target):
    Image.open(source).save(target, compress_level=1)


@pytest.mark.parametrize("copy", [_copy, _save_with_other_bytes])
def test_an_image_in_two_classes_counts_for_none_and_both_files_are_named(class_folder, copy):
    """Its label is unknown."""
    first, second = class_folder / "circle" / "00.png", class_folder / "square" / "copy.png"
    copy(first, second)

    images = dataset.read([class_folder], SMALL)

    assert images.class_counts() == {"circle": 19, "square": 20, "stripes": 20}
    assert {skipped.path for skipped in images.skipped} == {first, second}
    assert all("in another class" in skipped.reason for skipped in images.skipped)


def test_the_same_pixels_in_other_bytes_count_once(class_folder):
    """Otherwise one copy could be trained on and the other held out."""
    _save_with_other_bytes(class_folder / "circle" / "00.png", class_folder / "circle" / "again.bmp")

    images = dataset.read([class_folder], SMALL)

    assert len(images) == len(set(images.pixel_digests)) == 60
    assert "the same image as" in images.skipped[0].reason


def test_a_file_beside_the_class_folders_is_reported(class_folder):
    (class_folder / "loose.jpg").touch()

    images = dataset.read([class_folder], SMALL)

    assert [(skipped.path.name, skipped.reason) for skipped in images.skipped] == [
        ("loose.jpg", "it is in no class folder")
    ]


def test_a_large_set_is_mapped_from_an_unnamed_file(shapes_dir, tmp_path, monkeypatch):
    small = dataset.read([shapes_dir], SMALL)
    monkeypatch.setattr(dataset, "MAX_BYTES_IN_MEMORY", 1000)

    (large,) = dataset.read_each([shapes_dir], [SMALL], scratch_dir=tmp_path / "new")

    assert isinstance(large.pixels, np.memmap)
    assert list((tmp_path / "new").iterdir()) == []
    np.testing.assert_array_equal(large.pixels_at(slice(None)), small.pixels_at(slice(None)))


def test_files_are_read_once_for_several_sizes(shapes_dir, class_folder, monkeypatch):
    (class_folder / "circle" / "text.jpg").write_text("not an image")
    read_bytes, reads = pathlib.Path.read_bytes, []
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: reads.append(path) or read_bytes(path))
    large = Preprocess(24, 20)

    both = dataset.read_each([class_folder], [SMALL, large])

    reads = [path for path in reads if path.is_relative_to(class_folder)]  # and not those of other threads
    assert len(reads) == len(set(reads)) == 61
    for images, preprocess in zip(both, (SMALL, large), strict=True):
        expected = dataset.read([shapes_dir], preprocess)
        assert images.digests == expected.digests
        np.testing.assert_array_equal(images.pixels_at(slice(None)), expected.pixels_at(slice(None)))


def test_corrected_labels_outweigh_the_class_folders(class_folder, tmp_path):
    """A copy in the folder of the true class is a duplicate then; without a label the image is left out."""
    wrong, bad = class_folder / "circle" / "00.png", class_folder / "circle" / "01.png"
    shutil.copy(wrong, class_folder / "square" / "copy.png")
    table = tmp_path / "labels.csv"
    rows = [f"{atomic_files.sha256_file(wrong)},square", f"{atomic_files.sha256_file(bad)},"]
    table.write_text("\n".join(["sha256,label", *rows]))

    (images,) = dataset.read_each([class_folder], [SMALL], corrected=corrections.read(table))

    assert images.class_counts() == {"circle": 18, "square": 21, "stripes": 20}
    assert images.relabelled == 1
    assert {file.reason for file in images.skipped if file.path == bad} == {"--relabel leaves it out"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must be sha256,label"),
        ("sha256,label\nabc,circle", "line 2: write the SHA-256"),
        (f"sha256,label\n{'a' * 64},circle\n{'a' * 64},square", "line 3: a+ has two labels"),
        (f"sha256,label\n{'a' * 64},oval", "unknown oval: the classes are circle, square, stripes"),
    ],
)
def test_invalid_corrections_are_rejected(class_folder, tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)

    with pytest.raises(dataset.InvalidDataset, match=message):
        dataset.read_each([class_folder], [SMALL], corrected=corrections.read(tmp_path / "labels.csv"))
