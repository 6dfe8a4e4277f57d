import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sortbelt import errors
from sortbelt.bulk import run_manifest
from sortbelt.local import child_process, data_directory
from tests.support import modules


def test_the_folder_is_the_given_one_else_the_settings_else_the_users_own(monkeypatch):
    monkeypatch.setenv("SORTBELT_DATA_DIR", "/b")
    assert data_directory.locate("/a").as_posix() == "/a"
    monkeypatch.setenv("XDG_DATA_HOME", "/c")
    assert data_directory.locate().as_posix() == "/b"
    monkeypatch.delenv("SORTBELT_DATA_DIR")
    assert data_directory.locate().as_posix() == "/c/sortbelt"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have folders of their own")
def test_the_folders_on_linux_are_those_of_xdg(monkeypatch):
    monkeypatch.delenv("SORTBELT_DATA_DIR", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")

    assert data_directory.locate().as_posix() == "/home/me/.local/share/sortbelt"
    assert (
        run_manifest.default_path("http://x", "key", "/photos", None).parent.as_posix()
        == "/home/me/.local/state/sortbelt/runs"
    )


def test_other_users_cannot_read_it(data_folder):
    data_directory.write_announcement(data_folder, data_directory.RunningServer("http://x", "key", 1))

    assert stat.S_IMODE(data_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(data_directory.ensure_admin_key_file(data_folder).stat().st_mode) == 0o600
    assert stat.S_IMODE((data_folder / "up.json").stat().st_mode) == 0o600


def test_the_admin_key_is_made_once(data_folder):
    first = data_directory.ensure_admin_key_file(data_folder).read_text()

    assert re.fullmatch(r"sb_[0-9a-f]{8}_[A-Za-z0-9_-]{43}\n", first)
    assert data_directory.ensure_admin_key_file(data_folder).read_text() == first


def test_an_admin_key_of_the_callers_is_used(data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SORTBELT_ADMIN_KEY", "sb_mine")
    assert data_directory.ensure_admin_key_file(data_folder).read_text() == "sb_mine\n"
    monkeypatch.setenv("SORTBELT_ADMIN_KEY_FILE", str(tmp_path / "k"))
    assert data_directory.ensure_admin_key_file(data_folder) == tmp_path / "k"


def test_a_file_is_no_data_folder(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(errors.BadInput, match="name another one with --data-dir"):
        data_directory.prepare(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where even root cannot write")
def test_a_folder_that_may_not_be_written_is_refused():
    with pytest.raises(errors.BadInput, match="cannot be used"):
        data_directory.prepare(Path("/proc/sortbelt"))


def test_a_second_one_is_refused_with_the_pid_of_the_first(data_folder):
    with data_directory.locked(data_folder):
        data_directory.write_announcement(
            data_folder, data_directory.RunningServer("http://127.0.0.1:8123", "key", os.getpid())
        )
        again = rf"Already running .* \(pid {os.getpid()}\) at http://127.0.0.1:8123"

        with pytest.raises(errors.BadInput, match=again), data_directory.locked(data_folder):
            pass


def test_a_killed_owner_leaves_the_folder_free(data_folder):
    script = f"""
import os, pathlib, signal
from sortbelt.local import child_process, data_directory
with data_directory.locked(pathlib.Path({str(data_folder)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL

    with data_directory.locked(data_folder):
        assert (data_folder / "up.pid").read_text() == f"{os.getpid()}\n"


@pytest.fixture
def foreign_user(monkeypatch):
    """Be another user than the owner of all files."""
    monkeypatch.setattr(data_directory, "os", modules.with_changes(os, geteuid=lambda: os.getuid() + 1))


def test_a_folder_of_another_user_is_refused(tmp_path, foreign_user):
    """Row 11: with a planted admin key, or empty."""
    del foreign_user
    with pytest.raises(errors.BadInput, match="belongs to another user"):
        data_directory.prepare(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path, mode):
    """Row 11: whatever is in it may be planted; an empty one is made private instead."""
    tmp_path.chmod(mode)
    (tmp_path / "admin.key").write_text("planted")
    with pytest.raises(errors.BadInput, match=f"its mode is {mode:04o}"):
        data_directory.prepare(tmp_path)
    (tmp_path / "admin.key").unlink()
    data_directory.prepare(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_in_the_folder_is_refused(data_folder):
    """Row 11: the folder was writable once."""
    (data_folder / "admin.key").write_text("planted")
    os.chown(data_folder / "admin.key", 12345, 12345)
    with pytest.raises(errors.BadInput, match=r"admin.key.*belongs to another user"):
        data_directory.prepare(data_folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_that_another_user_makes_at_the_same_moment_is_refused(tmp_path, monkeypatch):
    folder, mkdir = tmp_path / "data", Path.mkdir

    def make_foreign(path, *args, **options):
        if not path.exists():
            mkdir(path, 0o755)
            os.chown(path, 12345, 12345)
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", make_foreign)
    with pytest.raises(errors.BadInput, match="belongs to another user"):
        data_directory.prepare(folder)


def test_files_are_private(data_folder):
    """Row 11: those that exist, such as a database that was readable by all, and those that the servers create."""
    (data_folder / "sortbelt.db").touch()
    (data_folder / "sortbelt.db").chmod(0o644)
    (data_folder / "holiday.jpg").touch()
    (data_folder / "holiday.jpg").chmod(0o644)
    data_folder.chmod(0o755)
    data_directory.prepare(data_folder)
    command = [sys.executable, "-c", "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()", str(data_folder / "new")]
    program = child_process.Program("toucher", command, os.environ, data_folder / "log")
    assert child_process.launch(program).wait(60) == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_folder.iterdir()}
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {"holiday.jpg": 0o644}  # not Sortbelt's
    assert stat.S_IMODE(data_folder.stat().st_mode) == 0o755
    assert {"sortbelt.db", "new", "log"} <= modes.keys()


def test_the_lock_cannot_be_removed(data_folder):
    """Row 11: a second `up` is refused also when all files of the folder were deleted or replaced."""
    with data_directory.locked(data_folder):
        for path in data_folder.iterdir():
            path.unlink() if path.is_file() else path.rmdir()
        (data_folder / "up.lock").touch()
        with pytest.raises(errors.BadInput, match="Already running"), data_directory.locked(data_folder):
            pass
