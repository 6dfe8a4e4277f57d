"""Locks on files: one holder at a time, until it releases the lock or its process ends."""

import os
import subprocess
import sys

import pytest

from sortbelt.local import file_lock

HOLD = """
import sys
from pathlib import Path
from sortbelt.local import file_lock
lock = file_lock.FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_a_lock_has_one_holder(tmp_path):
    """The next one gets it after the release; the file is private, and its owner's pid lies beside it."""
    path = tmp_path / "run.sqlite.lock"
    first, second = file_lock.FileLock(path), file_lock.FileLock(path)

    assert first.acquire()
    assert not second.acquire()
    assert path.stat().st_mode & 0o777 == 0o600
    assert second.owner_pid() == str(os.getpid())

    first.release()
    assert second.acquire()
    second.release()


def test_a_lock_ends_with_its_process(tmp_path):
    """Also when that is killed."""
    path = tmp_path / "run.sqlite.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "True\n"
        lock = file_lock.FileLock(path)
        assert not lock.acquire()
        assert lock.owner_pid() == str(process.pid)
        process.kill()
        process.wait()
    assert lock.acquire()
    lock.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_created_is_an_error(tmp_path):
    """The caller names the manifest in its message."""
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        file_lock.FileLock(tmp_path / "lock").acquire()
