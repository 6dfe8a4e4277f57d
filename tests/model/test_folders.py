"""Folders that are no data set are refused with what to do."""

import pytest

from model import folders


def made(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_every_visible_file_below_a_class_is_found(tmp_path):
    made(tmp_path, "cat/b.png", "cat/deep/a.png", "cat/.hidden", "dog/c.png", ".git/x", "readme.txt")

    found = [(label, path.name) for label, path in folders.files([tmp_path])]

    assert found == [("cat", "b.png"), ("cat", "a.png"), ("dog", "c.png")]


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(folders.BadData, match="no folder"):
        folders.files([tmp_path / "nothing"])
    with pytest.raises(folders.BadData, match="is a file; give a folder"):
        folders.files([made(tmp_path, "file") / "file"])


def test_an_empty_class_is_refused(tmp_path):
    made(tmp_path, "cat/a.png")
    (tmp_path / "dog").mkdir()

    with pytest.raises(folders.BadData, match="dog is empty"):
        folders.files([tmp_path])


@pytest.mark.parametrize("found", [set(), {"cat"}])
def test_fewer_than_two_classes_are_refused(tmp_path, found):
    with pytest.raises(folders.BadData, match="at least two"):
        folders.checked(found, None, [tmp_path], partly=False)


def test_classes_are_sorted_or_as_they_must_be(tmp_path):
    assert folders.checked({"b", "a"}, None, [tmp_path], partly=False) == ("a", "b")
    assert folders.checked({"b", "a"}, ("b", "a"), [tmp_path], partly=False) == ("b", "a")


@pytest.mark.parametrize(
    ("found", "told"),
    [({"a"}, "lacks b"), ({"a", "b", "c"}, "has c too"), ({"a", "x"}, "lacks b and has x too"), (set(), "lacks a, b")],
)
def test_other_classes_than_the_expected_are_refused_by_name(tmp_path, found, told):
    with pytest.raises(folders.BadData, match=f"class folders a, b, but {told}"):
        folders.checked(found, ("a", "b"), [tmp_path], partly=False)


def test_where_some_may_be_missing_only_strangers_are_refused(tmp_path):
    assert folders.checked({"a"}, ("a", "b"), [tmp_path], partly=True) == ("a", "b")
    with pytest.raises(folders.BadData, match="has c too"):
        folders.checked({"a", "c"}, ("a", "b"), [tmp_path], partly=True)
