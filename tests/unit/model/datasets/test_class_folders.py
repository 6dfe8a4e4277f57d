"""Folders that are not a data set are rejected with a message that says what to do."""

import errno
import os
import pathlib

import pytest

from model.datasets import class_folders


def touch_files(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_every_visible_file_below_a_class_is_listed(tmp_path):
    touch_files(tmp_path, "cat/b.png", "cat/deep/a.png", "cat/.hidden", "dog/c.png", ".git/x", "readme.txt")

    files = [(label, path.name) for label, path in class_folders.list_files([tmp_path])[0]]

    assert files == [("cat", "b.png"), ("cat", "a.png"), ("dog", "c.png")]


def test_links_and_folders_that_are_not_read_are_named_with_the_reason(tmp_path):
    """A link to a file is read, and so is a class folder that is a link."""
    data = touch_files(tmp_path / "data", "cat/a.png", "cat/.hidden/x.png")
    other = touch_files(tmp_path / "other", "b.png")
    (data / "dog").symlink_to(other)
    (data / "gone").symlink_to(tmp_path / "nothing")
    (data / "cat" / "link.png").symlink_to(other / "b.png")
    (data / "cat" / "more").symlink_to(other)
    (data / "cat" / "lost.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(data / "cat" / "pipe")

    files, skipped = class_folders.list_files([data])

    assert [str(path.relative_to(data)) for _, path in files] == ["cat/a.png", "cat/link.png", "dog/b.png"]
    assert [(str(each.path.relative_to(data)), each.reason) for each in skipped] == [
        ("cat/lost.png", "it is a link to a file that does not exist"),
        ("cat/more", "it is a link to a folder, which is not followed"),
        ("cat/pipe", "it is not a file"),
        ("gone", "it is a link to a file that does not exist"),
    ]


def test_a_folder_that_cannot_be_read_is_named_with_the_reason(tmp_path, monkeypatch):
    """The permissions of a folder do not stop root, who may run the tests."""
    touch_files(tmp_path, "cat/a.png", "cat/deep/b.png", "dog/c.png")
    scandir = os.scandir
    locked = {tmp_path / "cat" / "deep"}

    def scan(path):
        if pathlib.Path(path) in locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)

    files, (skipped,) = class_folders.list_files([tmp_path])

    assert [path.name for _, path in files] == ["a.png", "c.png"]
    assert (skipped.path.name, skipped.reason) == ("deep", "the folder cannot be read (Permission denied)")
    locked.add(tmp_path / "dog")
    with pytest.raises(class_folders.InvalidDataset, match="dog cannot be read: change its permissions"):
        class_folders.list_files([tmp_path])


def test_a_missing_folder_and_a_file_are_rejected(tmp_path):
    with pytest.raises(class_folders.InvalidDataset, match="does not exist: give a folder"):
        class_folders.list_files([tmp_path / "nothing"])
    with pytest.raises(class_folders.InvalidDataset, match="is a file: give a folder"):
        class_folders.list_files([touch_files(tmp_path, "file") / "file"])


def test_a_class_whose_name_is_not_utf_8_is_rejected(tmp_path):
    touch_files(tmp_path, "cat/a.png", os.fsdecode(b"caf\xe9/b.png"), "thé/c.png")
    files, _ = class_folders.list_files([tmp_path])
    present = {label for label, _ in files}

    for labels in (None, ("cat", "thé")):
        with pytest.raises(class_folders.InvalidDataset, match=r"class folder caf\\xe9 is not UTF-8: rename it"):
            class_folders.resolve_classes(present, labels, [tmp_path], allow_missing=True)


def test_an_empty_class_is_rejected(tmp_path):
    touch_files(tmp_path, "cat/a.png")
    (tmp_path / "dog").mkdir()

    with pytest.raises(class_folders.InvalidDataset, match="dog is empty: add images"):
        class_folders.list_files([tmp_path])
    (tmp_path / "dog" / "more").symlink_to(tmp_path / "cat")
    with pytest.raises(class_folders.InvalidDataset, match=r"dog is empty \(left out: .*more: it is a link to"):
        class_folders.list_files([tmp_path])


@pytest.mark.parametrize("present", [set(), {"cat"}])
def test_fewer_than_two_classes_are_rejected(tmp_path, present):
    with pytest.raises(class_folders.InvalidDataset, match="at least two"):
        class_folders.resolve_classes(present, None, [tmp_path], allow_missing=False)


def test_classes_are_sorted_or_in_the_expected_order(tmp_path):
    assert class_folders.resolve_classes({"b", "a"}, None, [tmp_path], allow_missing=False) == ("a", "b")
    assert class_folders.resolve_classes({"b", "a"}, ("b", "a"), [tmp_path], allow_missing=False) == ("b", "a")


@pytest.mark.parametrize(
    ("present", "problem"),
    [
        ({"a"}, "lacks b"),
        ({"a", "b", "c"}, "has the unknown c"),
        ({"a", "x"}, "lacks b and has the unknown x"),
        (set(), "lacks a, b"),
    ],
)
def test_unexpected_classes_are_rejected_by_name(tmp_path, present, problem):
    with pytest.raises(class_folders.InvalidDataset, match=f"{problem}: its class folders must be a, b"):
        class_folders.resolve_classes(present, ("a", "b"), [tmp_path], allow_missing=False)


def test_with_allow_missing_only_unknown_classes_are_rejected(tmp_path):
    assert class_folders.resolve_classes({"a"}, ("a", "b"), [tmp_path], allow_missing=True) == ("a", "b")
    with pytest.raises(class_folders.InvalidDataset, match="has the unknown c"):
        class_folders.resolve_classes({"a", "c"}, ("a", "b"), [tmp_path], allow_missing=True)
