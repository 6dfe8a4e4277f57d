import threading

import pytest

from core import errors
from core.sources import image_reader, local
from core.storage import blob_reader
from tests.support import waiting


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(blob_reader, "RETRY_SECONDS", 0.0)


class FlakySource(local.LocalSource):
    """A folder in which the first reads, and then the first checks, fail."""

    def __init__(self, root, reads, checks, error=errors.SourceReadError):
        super().__init__("camera", str(root))
        self.error = error
        self.failing = {"read": reads, "check": checks}

    def read(self, path, max_bytes):
        self._fail("read")
        return super().read(path, max_bytes)

    def check(self):
        self._fail("check")
        super().check()

    def _fail(self, action):
        if self.failing[action]:
            self.failing[action] -= 1
            raise self.error(self.name, "timed out")


def test_a_file_that_the_disk_does_not_read_fails_alone():
    """The memory of this process is such a file: reading it at 0 is an I/O error, and its folder can be listed."""
    source = local.LocalSource("camera", "/proc/self")
    with pytest.raises(errors.SourceUnavailable):
        source.read("mem", 100)
    with pytest.raises(errors.BlobMissing, match="camera can be listed"):
        image_reader.read(source, "mem", 100)
    assert image_reader.read(source, "comm", 100)


def test_an_image_that_cannot_be_read_for_a_moment_is_read_again(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    assert image_reader.read(FlakySource(tmp_path, reads=1, checks=0), "a.jpg", 100) == b"bytes"


def test_a_source_that_cannot_be_listed_is_down(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    with pytest.raises(errors.SourceUnavailable):
        image_reader.read(FlakySource(tmp_path, reads=1, checks=1), "a.jpg", 100)


def test_a_source_that_is_busy_is_down(tmp_path):
    """Such as a bucket that throttles reads: all of its images wait, although it can be listed."""
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    source = FlakySource(tmp_path, reads=9, checks=0, error=errors.SourceUnavailable)
    with pytest.raises(errors.SourceUnavailable):
        image_reader.read(source, "a.jpg", 100)
    assert source.failing["read"] == 8


def test_a_source_that_hangs_is_down(tmp_path, monkeypatch):
    """A read cannot be ended, so no more than a few hang at a time; once they end, the source is read again."""
    monkeypatch.setattr(local, "READ_SECONDS", 0.05)
    monkeypatch.setattr(local, "MAX_HUNG_READS", 2)
    answers, reads = threading.Event(), []

    class HangingSource(local.LocalSource):
        def open_file(self, parts):
            reads.append(parts)
            answers.wait(60)
            return super().open_file(parts)

    (tmp_path / "a.jpg").write_bytes(b"bytes")
    source = HangingSource("hanging", str(tmp_path))
    for _ in range(5):
        with pytest.raises(errors.SourceUnavailable):
            image_reader.read(source, "a.jpg", 100)
    assert len(reads) == 2
    answers.set()
    waiting.wait_until(lambda: not any(thread.name == "time limit" for thread in threading.enumerate()))
    assert image_reader.read(source, "a.jpg", 100) == b"bytes"
