import os
import tracemalloc

import pytest

from sortbelt import errors, folder


def make(root, *names, data=b"x"):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def names(root, **choices):
    return [picture.name for picture in folder.Folder(str(root), **choices).pictures()]


def test_pictures_come_sorted_with_their_folders_names_before_theirs(tmp_path):
    make(tmp_path, "b.jpg", "a/z.png", "a/b/c.webp", "c.JPEG")

    assert names(tmp_path) == ["a/b/c.webp", "a/z.png", "b.jpg", "c.JPEG"]


def test_a_picture_has_its_size(tmp_path):
    make(tmp_path, "a.jpg", data=b"12345")

    assert [p.size for p in folder.Folder(str(tmp_path)).pictures()] == [5]


def test_what_is_no_picture_is_skipped_and_counted_by_reason(tmp_path):
    make(tmp_path, "a.jpg", "notes.txt", ".hidden.jpg", ".git/b.jpg", "Thumbs.db")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")

    survey = folder.Folder(str(tmp_path)).survey()

    assert survey.pictures == 1
    assert survey.skipped == {"not a picture": 2, "hidden": 2, "symbolic link": 2, "special file": 1}


def test_a_folder_that_is_named_by_a_link_is_entered(tmp_path):
    make(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert names(tmp_path / "link") == ["a.jpg"]


def test_a_glob_without_a_slash_is_about_the_last_part_of_the_name(tmp_path):
    make(tmp_path, "a.jpg", "x/a_small.jpg", "thumbs/b.jpg", "x/thumbs/c.jpg")

    assert names(tmp_path, exclude=["thumbs", "*_small.*"]) == ["a.jpg"]


def test_a_glob_with_a_slash_is_about_the_whole_name(tmp_path):
    make(tmp_path, "x/a.jpg", "y/a.jpg")

    assert names(tmp_path, exclude=["x/*"]) == ["y/a.jpg"]


def test_include_takes_files_whatever_their_suffix(tmp_path):
    make(tmp_path, "a.jpg", "b.scan", "x/c.scan")

    assert names(tmp_path, include=["*.scan"]) == ["b.scan", "x/c.scan"]


def test_a_name_that_is_no_utf8_is_sent_escaped(tmp_path):
    make(tmp_path, os.fsdecode(b"caf\xe9.jpg"))

    (picture,) = folder.Folder(str(tmp_path)).pictures()

    assert picture.name == "caf\\udce9.jpg"
    assert picture.read() == b"x"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("none", "no_such_folder", "There is no folder"),
        ("file.jpg", "not_a_folder", "sortbelt submit"),
        ("empty", "no_pictures", "is empty"),
        ("texts", "no_pictures", "1 not a picture"),
    ],
)
def test_a_folder_without_pictures_is_an_error_that_says_why(tmp_path, name, code, words):
    make(tmp_path, "file.jpg", "texts/a.txt")
    (tmp_path / "empty").mkdir()

    with pytest.raises(errors.BadInput, match=words) as caught:
        folder.Folder(str(tmp_path / name)).survey()

    assert caught.value.code == code


def test_folders_nested_deeper_than_pythons_stack_are_no_trouble(tmp_path):
    root = os.open(tmp_path, os.O_RDONLY)
    for _ in range(700):
        os.mkdir("d", dir_fd=root)
        deeper = os.open("d", os.O_RDONLY, dir_fd=root)
        os.close(root)
        root = deeper
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=root))
    os.close(root)

    assert names(tmp_path) == ["d/" * 700 + "a.jpg"]


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    """The names of two thousand pictures alone would be 100 kB; threads left by other tests use some too."""
    for number in range(30):
        make(tmp_path, *(f"{number:02}/{name:03}.jpg" for name in range(100)))

    tracemalloc.start()
    walk = folder.Folder(str(tmp_path)).pictures()
    peaks = []
    for _ in range(3):
        for _ in range(1000):
            next(walk)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()

    assert peaks[2] - peaks[0] < 50_000
