"""Change detection: what is read, what is kept, and when the server is asked."""

import hashlib

import pytest

from sortbelt import errors
from sortbelt.bulk import change_detection
from sortbelt.client import image_files


class FakeClient:
    """A server that has some blobs, and counts the lookups."""

    def __init__(self, known=()):
        self.known = {hashlib.sha256(data).hexdigest() for data in known}
        self.lookups = 0

    def known_blobs(self, digests):
        """Return those that it has."""
        self.lookups += 1
        return self.known & set(digests)


class Source:
    """Bytes as of an image in an archive."""

    def __init__(self, data):
        self.data = data

    def read(self):
        """Return them."""
        return self.data


def block_of(*contents):
    """Return candidates with these bytes."""
    return [
        change_detection.Candidate(image_files.Image(f"{number}.jpg", len(data), Source(data)))
        for number, data in enumerate(contents)
    ]


def test_a_small_file_is_read_once_and_a_large_one_again_when_it_is_sent(tmp_path, monkeypatch):
    """The bytes that were hashed are sent; those of large files are not kept."""
    monkeypatch.setattr(change_detection, "MAX_KEPT_BYTES", 10)
    for name, data in (("small.jpg", b"1234"), ("large.jpg", b"1234" * 5)):
        (tmp_path / name).write_bytes(data)
    images = image_files.from_files([tmp_path / "small.jpg", tmp_path / "large.jpg"])

    change_set = change_detection.ChangeDetector(FakeClient()).detect(
        [change_detection.Candidate(image) for image in images]
    )
    for image in images:
        (tmp_path / image.name).write_bytes(b"later")

    assert [image.with_bytes().source for image in change_set.new] == [b"1234", b"later"]
    assert change_set.new[0].sha256 == hashlib.sha256(b"1234").hexdigest()


def test_a_folder_that_the_server_does_not_know_is_asked_about_ever_more_seldom():
    """Until it knows an image: then each block is looked up again."""
    client = FakeClient([b"known"])
    detector = change_detection.ChangeDetector(client)

    asked = []
    for number in range(11):
        before = client.lookups
        detector.detect(block_of(b"new %d" % number))
        asked.append(client.lookups - before)
    assert asked == [1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]

    for _ in range(4):
        change_set = detector.detect(block_of(b"known"))
    assert len(change_set.known_digests) == 1
    before = client.lookups
    assert detector.detect(block_of(b"known")).known_digests
    assert client.lookups == before + 1


def test_a_run_that_goes_on_with_an_earlier_one_asks_about_every_block():
    """Its manifest lacks what was sent when the earlier one was killed."""
    client = FakeClient([b"sent"])
    detector = change_detection.ChangeDetector(client)
    detector.always_look_up()

    detector.detect(block_of(b"new"))
    assert len(detector.detect(block_of(b"sent")).known_digests) == 1


@pytest.mark.parametrize("error", [errors.NotFound, errors.InvalidRequest])
def test_a_server_without_lookups_is_asked_once(error):
    """An old server, or one that takes fewer digests."""

    class OldClient(FakeClient):
        def known_blobs(self, digests):
            super().known_blobs(digests)
            raise error(404, {})

    client = OldClient()
    detector = change_detection.ChangeDetector(client)
    for number in range(3):
        assert detector.detect(block_of(b"%d" % number)).new
    assert client.lookups == 1
