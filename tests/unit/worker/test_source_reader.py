import pytest

from core import errors
from core.db.queries import claims as claim_queries
from core.sources import catalog, local
from worker import source_reader


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


def make_reader(source, path):
    """Return the reader of a claimed image."""
    claim = claim_queries.Claim(1, "job", path, "0" * 64, 1, "me", None, 100, source.name, path)
    return source_reader.reader(catalog.SourceCatalog({source.name: source}), claim)


def test_a_file_that_the_disk_does_not_read_fails_alone():
    """The memory of this process is such a file: reading it at 0 is an I/O error, and its folder can be listed."""
    source = local.LocalSource("camera", "/proc/self")
    with pytest.raises(errors.SourceUnavailable):
        source.read("mem", 100)
    with pytest.raises(errors.BlobMissing, match="camera can be listed"):
        make_reader(source, "mem")()
    assert make_reader(source, "comm")()


def test_an_image_that_cannot_be_read_for_a_moment_is_read_again(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    assert make_reader(FlakySource(tmp_path, reads=1, checks=0), "a.jpg")() == b"bytes"


def test_a_source_that_cannot_be_listed_is_down(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    with pytest.raises(errors.SourceUnavailable):
        make_reader(FlakySource(tmp_path, reads=1, checks=1), "a.jpg")()


def test_a_source_that_is_busy_is_down(tmp_path):
    """Such as a bucket that throttles reads: all of its images wait, although it can be listed."""
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    source = FlakySource(tmp_path, reads=9, checks=0, error=errors.SourceUnavailable)
    with pytest.raises(errors.SourceUnavailable):
        make_reader(source, "a.jpg")()
    assert source.failing["read"] == 8


def test_an_image_in_the_blob_store_has_no_reader():
    claim = claim_queries.Claim(1, "job", "a.jpg", "0" * 64, 1, "me", None)
    assert source_reader.reader(catalog.SourceCatalog({}), claim) is None
