import errno
import threading
from concurrent import futures

import pytest

from core.storage import fsync


@pytest.fixture
def slow_flush(monkeypatch):
    """A flush that lasts until it is released; counts how often it began."""
    begun, may_end, count = threading.Event(), threading.Event(), []

    def flush(folder):
        count.append(folder)
        begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(fsync, "_syncfs", flush)
    return begun, may_end, count


def test_those_who_ask_during_a_flush_share_the_next(tmp_path, slow_flush):
    begun, may_end, count = slow_flush
    flat = fsync.FilesystemSync(tmp_path)
    with futures.ThreadPoolExecutor(9) as pool:
        first = pool.submit(flat.flush)
        assert begun.wait(10)
        others = [pool.submit(flat.flush) for _ in range(8)]
        # The flush under way may have begun before these were written: it must not be theirs.
        assert not futures.wait(others, timeout=0.2).done
        may_end.set()
        for each in [first, *others]:
            each.result(10)
    assert 2 <= len(count) <= 3


def test_all_callers_of_a_failed_flush_get_its_error(tmp_path, slow_flush, monkeypatch):
    """Those who waited for it too; the next flush works."""
    begun, may_end, _ = slow_flush
    wait_for_release = fsync._syncfs

    def full(folder):
        wait_for_release(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fsync, "_syncfs", full)
    flat = fsync.FilesystemSync(tmp_path)
    with futures.ThreadPoolExecutor(5) as pool:
        callers = [pool.submit(flat.flush)]
        assert begun.wait(10)
        callers += [pool.submit(flat.flush) for _ in range(4)]
        may_end.set()
        assert all(isinstance(caller.exception(10), OSError) for caller in callers)
    monkeypatch.setattr(fsync, "_syncfs", wait_for_release)
    flat.flush()


def test_single_flushes_are_not_shared(tmp_path, slow_flush):
    """Each begins after its call."""
    _, may_end, count = slow_flush
    may_end.set()
    flat = fsync.FilesystemSync(tmp_path)
    for _ in range(3):
        flat.flush()
    assert len(count) == 3


def test_a_real_disk_is_flushed(tmp_path):
    (tmp_path / "some").write_bytes(b"bytes")
    fsync.FilesystemSync(tmp_path).flush()


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fsync.FilesystemSync(tmp_path / "gone").flush()
