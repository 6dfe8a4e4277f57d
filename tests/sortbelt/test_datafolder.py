import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sortbelt import datafolder, errors


def test_the_folder_is_the_given_one_else_the_settings_else_the_users_own():
    assert datafolder.locate("/a", {"SORTBELT_DATA_DIR": "/b"}).as_posix() == "/a"
    assert datafolder.locate(None, {"SORTBELT_DATA_DIR": "/b", "XDG_DATA_HOME": "/c"}).as_posix() == "/b"
    assert datafolder.locate(None, {"XDG_DATA_HOME": "/c"}).as_posix() == "/c/sortbelt"
    assert datafolder.locate(None, {}).parts[-3:] == (".local", "share", "sortbelt")


def test_nobody_else_may_look_into_it(folder):
    datafolder.announce(folder, datafolder.Running("http://x", "key", 1))

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(datafolder.admin_key(folder, {}).stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "up.json").stat().st_mode) == 0o600


def test_the_admin_key_is_made_once(folder):
    first = datafolder.admin_key(folder, {}).read_text()

    assert re.fullmatch(r"sb_[0-9a-f]{8}_[A-Za-z0-9_-]{43}\n", first)
    assert datafolder.admin_key(folder, {}).read_text() == first


def test_an_admin_key_of_the_callers_is_used(folder, tmp_path):
    assert datafolder.admin_key(folder, {"SORTBELT_ADMIN_KEY": "sb_mine"}).read_text() == "sb_mine\n"
    assert datafolder.admin_key(folder, {"SORTBELT_ADMIN_KEY_FILE": str(tmp_path / "k")}) == tmp_path / "k"


def test_a_file_is_no_data_folder(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(errors.BadInput, match="name another one with --data-dir"):
        datafolder.prepare(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where even root cannot write")
def test_a_folder_that_may_not_be_written_is_refused():
    with pytest.raises(errors.BadInput, match="cannot be used"):
        datafolder.prepare(Path("/proc/sortbelt"))


def test_a_second_one_is_told_who_is_there(folder):
    with datafolder.occupied(folder):
        datafolder.announce(folder, datafolder.Running("http://127.0.0.1:8123", "key", os.getpid()))
        again = rf"Already running .* \(pid {os.getpid()}\) at http://127.0.0.1:8123"

        with pytest.raises(errors.BadInput, match=again), datafolder.occupied(folder):
            pass


def test_a_killed_owner_leaves_the_folder_free(folder):
    script = f"""
import os, pathlib, signal
from sortbelt import datafolder
with datafolder.occupied(pathlib.Path({str(folder)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)

    with datafolder.occupied(folder):
        assert (folder / "up.lock").read_text() == f"{os.getpid()}\n"
