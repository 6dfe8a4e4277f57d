import dataclasses
import hashlib
import threading
import time
from concurrent import futures

import pytest

from jobs import blobs, errors, intake, settings
from jobs.store import jobs
from tests.jobs import making


class CountingBell:
    """A bell that counts its rings."""

    def __init__(self, before):
        self.rings = 0
        self.before = before
        self.seen = []

    def ring(self):
        """Count, and look at what is true at that moment."""
        self.rings += 1
        self.seen.append(self.before())


class FullDisk:
    """A store of blobs that is full."""

    def put(self, blobs):
        """Take some, then no more."""
        list(blobs)
        raise errors.BlobsUnavailable("A picture cannot be stored: No space left on device.")


@pytest.fixture
def desk(db, tmp_path):
    """An intake on a real database and folder, with a bell that counts."""
    bell = CountingBell(lambda: len(making.images(db)))
    return intake.Intake(settings.Settings(), db, blobs.Folder(tmp_path / "blobs"), bell)


def uploads(*names):
    return [intake.Upload(name, making.picture(number)) for number, name in enumerate(names)]


def test_blobs_rows_bell_in_this_order(desk, db, owner):
    """When the bell rings, the rows are committed, and every row's bytes are in the store."""
    id_ = desk.create(making.order(owner), uploads("a", "b")).id
    assert (desk.bell.rings, desk.bell.seen) == (1, [2])
    for claim in making.claim(db):
        assert claim.job_id == id_
        assert hashlib.sha256(desk.blobs.get(claim.sha256)).hexdigest() == claim.sha256


def test_nothing_is_taken_in_if_the_blobs_are_full(desk, db, owner):
    """No row, no bell."""
    full = dataclasses.replace(desk, blobs=FullDisk())
    with pytest.raises(errors.BlobsUnavailable):
        full.create(making.order(owner), uploads("a"))
    job = making.job(db, owner, sealed=False)
    with pytest.raises(errors.BlobsUnavailable):
        full.add(job, owner, uploads("a"))
    assert making.images(db) == {}
    assert desk.bell.rings == 0


def test_bad_pictures_are_not_stored(desk, db, owner, tmp_path):
    """Only what will be classified takes room."""
    desk.create(making.order(owner), [intake.Upload("a", b"text"), intake.Upload("b", b"")])
    assert not (tmp_path / "blobs").exists()
    assert making.results(db) == ["a", "b"]


def test_a_stranger_fills_no_disk_through_another_s_job(desk, db, owner, tmp_path):
    """The job is looked for before anything is written."""
    with pytest.raises(errors.JobNotFound):
        desk.add(making.job(db, owner, sealed=False), "00000000-0000-7000-8000-000000000000", uploads("a"))
    assert not (tmp_path / "blobs").exists()


def test_a_sealed_job_s_late_pictures_are_refused(desk, owner):
    """Through the whole intake."""
    id_ = desk.create(making.order(owner), uploads("a")).id
    desk.add(id_, owner, uploads("a"))
    with pytest.raises(errors.JobSealed):
        desk.add(id_, owner, uploads("a", "b"))


def test_a_repeat_under_one_key_is_told_by_everything_that_was_ordered(desk, owner):
    """The same order is the same job; another order, name, byte or sequence is a mismatch."""
    order = making.order(owner, idempotency_key="k", metadata={"a": 1, "b": 2})
    first = desk.create(order, uploads("a", "b")).id
    again = dataclasses.replace(order, metadata={"b": 2, "a": 1})
    assert desk.create(again, uploads("a", "b")).id == first
    others = [
        (dataclasses.replace(order, metadata={"a": 1}), uploads("a", "b")),
        (dataclasses.replace(order, sealed=False), uploads("a", "b")),
        (order, uploads("a")),
        (order, uploads("b", "a")),
        (order, [intake.Upload("a", making.picture(9)), *uploads("", "b")[1:]]),
    ]
    for other, pictures in others:
        with pytest.raises(errors.IdempotencyMismatch):
            desk.create(other, pictures)


def test_two_names_that_become_one_are_two_of_a_kind(desk, db, owner):
    """Cleaned names must still be unique."""
    with pytest.raises(errors.DuplicateName):
        desk.create(making.order(owner), uploads("a\x01", "a\x02"))
    assert making.images(db) == {}


def test_an_unknown_model_is_refused_before_anything_is_stored(desk, owner, tmp_path):
    """With the name of the one there is."""
    with pytest.raises(errors.UnknownModel, match=making.MODEL):
        desk.create(making.order(owner, model="other"), uploads("a"))
    assert not (tmp_path / "blobs").exists()


def test_too_many_pictures_are_refused_before_any_is_looked_at(desk, owner):
    """The limit of the settings, and where to send the rest."""
    few = dataclasses.replace(desk, settings=settings.Settings(max_images_per_request=2))
    few.create(making.order(owner), uploads("a", "b"))
    with pytest.raises(errors.TooManyImages, match="images_url"):
        few.create(making.order(owner), uploads("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "kept"), [("a\0b", "a\ufffdb"), ("\x1b[1m", "\ufffd[1m"), ("\ud800", "\ufffd"), ("é", "é")]
)
def test_names_are_cleaned_of_what_cannot_be_shown(desk, db, owner, name, kept):
    """Control characters and half characters are replaced, all else stays."""
    desk.create(making.order(owner), uploads(name))
    assert set(making.images(db)) == {kept}


def test_the_same_bytes_twice_are_two_images_and_one_blob(desk, db, owner, tmp_path):
    """Content-addressed."""
    same = [intake.Upload(name, making.picture()) for name in "ab"]
    desk.create(making.order(owner), same)
    assert len(making.images(db)) == 2
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_of_orders_that_come_at_once_a_bad_one_fails_alone(desk, db, owner, monkeypatch):
    """While one is written three others come: the one that cannot be is told so, and the rest are taken in."""
    desk.create(making.order(owner, idempotency_key="k"), uploads("a"))
    under_way, go = threading.Event(), threading.Event()
    real, sizes = jobs.take, []

    def take(c, orders):
        sizes.append(len(orders))
        if len(sizes) == 1:
            under_way.set()
            assert go.wait(10)
        return real(c, orders)

    monkeypatch.setattr(jobs, "take", take)
    with futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(desk.create, making.order(owner), uploads("b"))
        assert under_way.wait(10)
        bad = pool.submit(desk.create, making.order(owner, idempotency_key="k"), uploads("another"))
        good = [pool.submit(desk.create, making.order(owner), uploads(name)) for name in "cd"]
        while desk._company._next is None or len(desk._company._next[0]) < 3:
            time.sleep(0.001)
        go.set()
        assert [done.result(10).total for done in (first, *good)] == [1, 1, 1]
        with pytest.raises(errors.IdempotencyMismatch):
            bad.result(10)
    assert sizes == [1, 3, 1, 1, 1]
    assert set(making.images(db)) == {"a", "b", "c", "d"}
