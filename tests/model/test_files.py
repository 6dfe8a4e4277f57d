"""A file is whole, or as it was."""

import resource

import pytest

from model import files


def test_a_file_is_replaced_whole_and_readable_by_all(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")

    files.write_whole(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_where_there_is_no_room_the_old_file_stays(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            files.write_whole(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
