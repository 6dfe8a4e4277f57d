"""Retention purges old jobs in small steps, in any process, and nothing else."""

import os
import threading
import time
from concurrent import futures

import pytest
import sqlalchemy as sa

from api.server import process
from core import errors
from core.db.queries import invariants, job_lists, jobs, models
from core.db.queries import retention as steps
from core.maintenance import retention
from tests.support import factories, waiting

LONG_AGO = sa.text("'2020-01-01 00:00:00'")
ONE = bytes(range(256))


@pytest.fixture
def make_stored_job(db, owner, blob_store):
    """Create jobs whose images are in the store; equal names have equal bytes. Returns the job's id."""

    def make(*names, old=True, **fields):
        job_id = factories.create_job(db, owner, *names, **fields)
        for name in names:
            path = blob_store.path(factories.new_image(name).sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ONE)
            os.utime(path, (0, 0))
        (blob_store.root / "tmp").mkdir(parents=True, exist_ok=True)
        factories.complete_claims(db, [claim for claim in factories.claim_images(db) if claim.job_id == job_id])
        if old:
            over(db, job_id)
        return job_id

    return make


def over(db, job_id):
    """Let a job have been over for years."""
    db.write(
        lambda c: c.execute(sa.update(factories.JOBS).where(factories.JOBS.c.id == job_id).values(finished_at=LONG_AGO))
    )


def is_gone(db, job_id):
    """Whether a job answers 410."""
    try:
        factories.get_job(db, job_id)
    except errors.JobPurged:
        return True
    return False


def test_a_giant_goes_in_steps_and_is_gone_with_the_first(db, blob_store, make_stored_job, monkeypatch):
    """No step blocks others, and no caller sees half of a job; an empty job does not end the purge."""
    monkeypatch.setattr(steps, "IMAGES_PER_STEP", 10)
    monkeypatch.setattr(steps, "JOBS_PER_STEP", 1)
    empty, giant, young = make_stored_job(), make_stored_job(*map(str, range(25))), make_stored_job("a", old=False)
    first = [db.write(steps.purge_step, days=30) for _ in range(2)][1]
    assert (first.jobs, len(first.digests)) == (1, 10)
    assert is_gone(db, giant)
    assert len(factories.image_states(db)) == 16
    assert db.read(invariants.miscounted_jobs) == 0
    retention.run_purge(db, blob_store, days=30)
    assert list(factories.image_states(db)) == ["a"]
    assert [is_gone(db, job_id) for job_id in (empty, giant, young)] == [True, True, False]
    assert db.write(steps.purge_step, days=30).jobs == 0
    assert [str(row.id) for row in db.read(job_lists.list_page, job_lists.JobFilter(), limit=9)] == [young]


def test_what_is_not_over_stays_however_old(db, blob_store, owner):
    """Queued, running, and open with all its images done."""
    ids = [factories.create_job(db, owner, name, sealed=name != "open") for name in ("open", "running", "queued")]
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(created_at=LONG_AGO)))
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    assert len(factories.claim_images(db, limit=1)) == 1
    assert retention.run_purge(db, blob_store, days=0) == 0
    assert not any(is_gone(db, job_id) for job_id in ids)


def test_what_was_over_within_the_hour_stays_whatever_is_asked(db, blob_store, make_stored_job):
    """Its bytes may be on the way for another job."""
    job_id = make_stored_job("a", old=False)
    assert retention.run_purge(db, blob_store, days=-1) == 0
    assert not is_gone(db, job_id)


def test_ten_at_once_while_others_submit_and_work(db, blob_store, make_stored_job, owner, monkeypatch):
    """Each blob is removed once no job refers to it, and not before; running jobs are not disturbed."""
    monkeypatch.setattr(steps, "JOBS_PER_STEP", 2)
    old = [make_stored_job(f"own {n}", f"shared {n}", f"common {n % 3}") for n in range(12)]
    young = [make_stored_job(f"shared {n}", old=False) for n in range(12)]

    def live(number):
        factories.create_job(db, owner, f"new {number}")
        while not (claims := factories.claim_images(db, limit=1, worker=str(number))):
            pass  # another one has it in hand at this moment
        return factories.complete_claims(db, claims)

    with futures.ThreadPoolExecutor(12) as pool:
        lives = [pool.submit(live, number) for number in range(20)]
        purges = [pool.submit(retention.run_purge, db, blob_store, days=30) for _ in range(10)]
        assert sum(future.result() for future in lives) == 20
        for future in purges:
            future.result()
    retention.run_purge(db, blob_store, days=30)
    assert all(is_gone(db, job_id) for job_id in old)
    assert not any(is_gone(db, job_id) for job_id in young)
    assert factories.count_blobs(blob_store) == 12
    assert db.read(invariants.miscounted_jobs) == db.read(invariants.final_images_without_result) == 0


def test_a_model_file_uploaded_as_an_image_stays(db, blob_store, make_stored_job):
    """Else a caller who knows a model's files could remove it."""
    make_stored_job("weights", "b")
    sha256 = factories.new_image("weights").sha256
    manifest = {"name": "m", "version": "1", "digest": "0" * 64}
    db.write(models.add, manifest, {"weights.safetensors": sha256}, None)
    assert retention.run_purge(db, blob_store, days=30) == 1
    assert blob_store.get(sha256) == ONE


def test_a_process_keeps_up_by_itself(db, blob_store, make_stored_job, monkeypatch):
    """Round after round, and a round that breaks down does not end it."""
    fail = threading.Event()

    def broken(c, *, days):
        if not fail.is_set():
            fail.set()
            raise RuntimeError("as if by a defect")
        return real(c, days=days)

    real = steps.purge_step
    monkeypatch.setattr(steps, "purge_step", broken)
    monkeypatch.setattr(retention, "PURGE_INTERVAL_SECONDS", 0.05)
    job_id = make_stored_job("a")
    stop = retention.start_purge_thread(db, blob_store, days=30)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "purge"]
    for _ in range(200):
        if factories.count_blobs(blob_store) == 0:
            break
        time.sleep(0.05)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert is_gone(db, job_id)
    assert factories.count_blobs(blob_store) == 0


def test_the_purge_thread_ends_cancelled_jobs_where_no_worker_runs(db, owner, blob_store, monkeypatch):
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 2)
    monkeypatch.setattr(retention, "PURGE_INTERVAL_SECONDS", 0.05)
    id_ = factories.create_job(db, owner, *"abcdefghi")
    db.write(jobs.cancel, id_, owner)
    stop = retention.start_purge_thread(db, blob_store, days=0)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "purge"]
    waiting.wait_until(lambda: factories.get_job(db, id_).status == "cancelled")
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert factories.job_counts(db, id_) == {"cancelled": 9}


@pytest.mark.parametrize("days", ["0", "30"])
def test_the_api_removes_what_is_old_or_deleted(sqlite_database_url, monkeypatch, tmp_path, days):
    """In a thread that also runs without retention, for what callers have deleted."""
    calls = []
    monkeypatch.setattr(retention, "start_purge_thread", lambda *_, days: calls.append(days))
    environ = {"DATABASE_URL": sqlite_database_url, "BLOB_STORE": str(tmp_path / "blobs"), "RETENTION_DAYS": days}
    for name, value in environ.items():
        monkeypatch.setenv(f"SORTBELT_{name}", value)
    process.create()
    assert calls == [float(days)]
