"""What is not to be kept goes by itself: in small steps, by whoever has time, and never more than that."""

import os
import threading
import time
from concurrent import futures

import pytest
import sqlalchemy as sa

from api import front
from jobs import blobs, errors, purge
from jobs.store import invariants, listed, models
from jobs.store import purge as steps
from tests.jobs import making

LONG_AGO = sa.text("'2020-01-01 00:00:00'")
ONE = bytes(range(256))


@pytest.fixture
def store(tmp_path):
    """A folder for pictures."""
    return blobs.Folder(tmp_path / "blobs")


@pytest.fixture
def kept(db, owner, store):
    """Makes jobs whose pictures lie in the store; of equal names, equal pictures. The job's id."""

    def make(*names, old=True, **fields):
        job_id = making.job(db, owner, *names, **fields)
        for name in names:
            path = store.path(making.image(name).sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ONE)
            os.utime(path, (0, 0))
        (store.root / "halves").mkdir(parents=True, exist_ok=True)
        making.finish(db, [claim for claim in making.claim(db) if claim.job_id == job_id])
        if old:
            over(db, job_id)
        return job_id

    return make


def over(db, job_id):
    """Let a job have been over for years."""
    db.write(lambda c: c.execute(sa.update(making.JOBS).where(making.JOBS.c.id == job_id).values(finished_at=LONG_AGO)))


def stored(store):
    """How many pictures are in the store."""
    return len(list(store.root.glob("??/*")))


def is_gone(db, job_id):
    """Whether a job answers 410."""
    try:
        making.view(db, job_id)
    except errors.JobPurged:
        return True
    return False


def test_a_giant_goes_in_steps_and_is_gone_with_the_first(db, store, kept, monkeypatch):
    """No step holds others up, and nobody sees half of a job; an empty job does not end the purge."""
    monkeypatch.setattr(steps, "IMAGES_AT_ONCE", 10)
    monkeypatch.setattr(steps, "JOBS_AT_ONCE", 1)
    empty, giant, young = kept(), kept(*map(str, range(25))), kept("a", old=False)
    first = [db.write(steps.purge, days=30) for _ in range(2)][1]
    assert (first.jobs, len(first.digests)) == (1, 10)
    assert is_gone(db, giant)
    assert len(making.images(db)) == 16
    assert db.read(invariants.miscounted_jobs) == 0
    purge.run(db, store, days=30)
    assert list(making.images(db)) == ["a"]
    assert [is_gone(db, job_id) for job_id in (empty, giant, young)] == [True, True, False]
    assert db.write(steps.purge, days=30).jobs == 0
    assert [str(row.id) for row in db.read(listed.page, listed.Filter(), limit=9)] == [young]


def test_what_is_not_over_stays_however_old(db, store, owner):
    """Queued, running, and open with all its pictures done."""
    ids = [making.job(db, owner, name, sealed=name != "open") for name in ("open", "running", "queued")]
    db.write(lambda c: c.execute(sa.update(making.JOBS).values(created_at=LONG_AGO)))
    making.finish(db, making.claim(db, limit=1))
    assert len(making.claim(db, limit=1)) == 1
    assert purge.run(db, store, days=0) == 0
    assert not any(is_gone(db, job_id) for job_id in ids)


def test_what_was_over_within_the_hour_stays_whatever_is_asked(db, store, kept):
    """Its bytes may be on the way for another job."""
    job_id = kept("a", old=False)
    assert purge.run(db, store, days=-1) == 0
    assert not is_gone(db, job_id)


def test_ten_at_once_while_others_submit_and_work(db, store, kept, owner, monkeypatch):
    """Each picture goes once nobody has it, and not before; what is at work is not disturbed."""
    monkeypatch.setattr(steps, "JOBS_AT_ONCE", 2)
    old = [kept(f"own {n}", f"shared {n}", f"common {n % 3}") for n in range(12)]
    young = [kept(f"shared {n}", old=False) for n in range(12)]

    def live(number):
        making.job(db, owner, f"new {number}")
        while not (claims := making.claim(db, limit=1, worker=str(number))):
            pass  # another one has it in hand at this moment
        return making.finish(db, claims)

    with futures.ThreadPoolExecutor(12) as pool:
        lives = [pool.submit(live, number) for number in range(20)]
        purges = [pool.submit(purge.run, db, store, days=30) for _ in range(10)]
        assert sum(future.result() for future in lives) == 20
        for future in purges:
            future.result()
    purge.run(db, store, days=30)
    assert all(is_gone(db, job_id) for job_id in old)
    assert not any(is_gone(db, job_id) for job_id in young)
    assert stored(store) == 12
    assert db.read(invariants.miscounted_jobs) == db.read(invariants.ended_without_result) == 0


def test_the_file_of_a_model_that_somebody_sent_as_a_picture_stays(db, store, kept):
    """Else whoever knows a model's files could take it from the workers."""
    kept("weights", "b")
    sha256 = making.image("weights").sha256
    manifest = {"name": "m", "version": "1", "digest": "0" * 64}
    db.write(models.add, manifest, {"weights.safetensors": sha256}, None)
    assert purge.run(db, store, days=30) == 1
    assert store.get(sha256) == ONE


def test_a_process_keeps_up_by_itself(db, store, kept, monkeypatch):
    """Round after round, and a round that breaks down does not end it."""
    fail = threading.Event()

    def broken(c, *, days):
        if not fail.is_set():
            fail.set()
            raise RuntimeError("as if by a defect")
        return real(c, days=days)

    real = steps.purge
    monkeypatch.setattr(purge.purge, "purge", broken)
    monkeypatch.setattr(purge, "ROUND_SECONDS", 0.05)
    job_id = kept("a")
    stop = purge.keep_up(db, store, days=30)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "purge"]
    for _ in range(200):
        if stored(store) == 0:
            break
        time.sleep(0.05)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert is_gone(db, job_id)
    assert stored(store) == 0


@pytest.mark.parametrize(("days", "begun"), [("0", 0), ("30", 1)])
def test_the_api_keeps_up_where_retention_is_set(sqlite_database_url, monkeypatch, tmp_path, days, begun):
    """And only there."""
    calls = []
    monkeypatch.setattr(front.purge, "keep_up", lambda *_, days: calls.append(days))
    environ = {"DATABASE_URL": sqlite_database_url, "BLOBS": str(tmp_path / "blobs"), "RETENTION_DAYS": days}
    for name, value in environ.items():
        monkeypatch.setenv(f"SORTBELT_{name}", value)
    front.create()
    assert calls == [30.0] * begun
