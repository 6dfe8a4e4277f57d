import os

import pytest

from sortbelt import errors
from sortbelt.client import image_files


def some(count, size=1):
    return [image_files.Image(str(n), size, b"x") for n in range(count)]


def test_a_request_carries_so_many_images_at_most():
    assert [len(batch) for batch in image_files.batches(some(70))] == [32, 32, 6]


def test_a_request_carries_so_many_bytes_at_most():
    assert [len(batch) for batch in image_files.batches(some(5, 1_500_000))] == [2, 2, 1]


def test_an_image_too_big_for_a_batch_is_sent_alone():
    sizes = [1, 9_000_000, 1]
    batch_sizes = [len(b) for b in image_files.batches(image_files.Image(str(s), s, b"") for s in sizes)]

    assert batch_sizes == [1, 1, 1]


def test_files_are_called_by_their_last_part(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"12")

    found = image_files.from_files([str(tmp_path / "a.jpg"), tmp_path / "b.jpg", ("c", b"123")])

    assert [(p.name, p.size, p.read()) for p in found] == [("a.jpg", 2, b"12"), ("b.jpg", 2, b"12"), ("c", 3, b"123")]


def test_files_with_one_name_are_called_by_their_paths(tmp_path):
    paths = [tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"1")

    assert [p.name for p in image_files.from_files(paths)] == [str(path) for path in paths]


def test_a_name_may_not_occur_twice():
    with pytest.raises(errors.BadInput, match="a is named twice"):
        image_files.from_files([("a", b"1"), ("a", b"2")])


def test_a_file_that_is_missing_or_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(errors.BadInput, match=r"nope\.jpg cannot be read: No such file"):
        image_files.from_files([tmp_path / "nope.jpg"])
    with pytest.raises(errors.BadInput, match="sortbelt enqueue"):
        image_files.from_files([tmp_path])


def test_a_link_that_was_named_is_followed_but_one_that_took_a_files_place_is_not(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")

    (image,) = image_files.from_files([tmp_path / "link.jpg"])
    assert (image.name, image.read()) == ("link.jpg", b"1")
    with pytest.raises(errors.BadInput, match="cannot be read"):
        image_files.Image("l", 1, str(tmp_path / "link.jpg")).read()


def test_a_pipe_that_took_a_files_place_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")

    with pytest.raises(errors.BadInput, match="not a regular file") as caught:
        image_files.Image("a.jpg", 1, str(tmp_path / "a.jpg")).read()

    assert caught.value.code == "not_a_file"


def test_a_file_bigger_than_any_server_takes_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(100_000_000)

    with pytest.raises(errors.BadInput, match="100,000,000 bytes") as caught:
        image_files.Image("a.jpg", 1, str(tmp_path / "a.jpg")).read()

    assert caught.value.code == "too_large"
