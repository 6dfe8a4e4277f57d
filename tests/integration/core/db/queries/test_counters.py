import threading
from collections import Counter

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from core import errors
from core.db import clock
from core.db.queries import claims as claim_queries
from core.db.queries import counters, expired_leases, jobs
from tests.support import factories

MODEL = factories.MODEL


def counted(db, name="images"):
    """Return the counts under a name."""
    return {tuple(labels): n for (what, *labels), n in db.read(counters.totals).items() if what == name}


def test_every_result_is_counted_in_the_transaction_that_writes_it(db, owner):
    """Whatever way an image ends: the counts are those of the table, by status, error and model."""
    bad = factories.new_image("bad", errors.ImageFailed("undecodable", "No."))
    db.write(factories.insert_job, factories.new_job(owner), [bad, factories.new_image("a")])
    factories.complete_claims(db, factories.claim_images(db))
    factories.create_job(db, owner, "b", "c")
    factories.complete_claims(db, factories.claim_images(db), label=None, error_code="timed_out")
    factories.create_job(db, owner, "lost")
    factories.claim_images(db)
    factories.expire_leases(db)
    db.write(expired_leases.requeue, max_attempts=1)
    db.write(jobs.cancel, factories.create_job(db, owner, "d", "e"), owner)
    factories.create_job(db, owner, "f", expires_in=3600)
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(expires_at=clock.now(-1))))
    db.write(jobs.expire)
    columns = [factories.RESULTS.c[name] for name in ("model_name", "status", "error_code")]
    rows = db.read(lambda c: c.execute(sa.select(*columns)).all())

    assert counted(db) == Counter((m, status, code or "", "false") for m, status, code in rows)
    assert Counter(code for _, _, code in rows) == {
        None: 1,
        "undecodable": 1,
        "timed_out": 2,
        "worker_lost": 1,
        "cancelled": 2,
        "expired": 1,
    }


def test_what_is_rolled_back_was_not_counted(db, owner):
    """A commit that fails and is retried counts once."""
    factories.create_job(db, owner, "a")
    fates = [factories.outcome(claim) for claim in factories.claim_images(db)]

    def fail(c):
        claim_queries.finish(c, fates, factories.MODEL_REF)
        c.exec_driver_sql("SELECT 1 FROM nothing")

    with pytest.raises((errors.DatabaseUnavailable, exc.SQLAlchemyError)):
        db.write(fail)
    assert counted(db) == {}
    db.write(claim_queries.finish, fates, factories.MODEL_REF)
    assert db.write(claim_queries.finish, fates, factories.MODEL_REF).results == ()
    assert counted(db) == {(MODEL, "done", "", "false"): 1}


def test_many_count_at_once_and_nothing_is_lost(db):
    """Each adds to the same counts, in transactions of its own."""

    def count():
        for _ in range(25):
            db.write(counters.increment, {("x", "a"): 1, ("x", "b"): 0.5})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(db, "x") == {("a",): 100, ("b",): 50}


def test_a_batch_is_counted_by_its_reason_and_size(db):
    """By the bound that it is within, and how many images there were in all."""
    for size in (1, 3, 64, 4096):
        db.write(counters.count_batch, counters.FlushReason.FULL, size)
    db.write(counters.count_batch, counters.FlushReason.LINGER, 3)
    bounds = {("full", "1"): 1, ("full", "4"): 1, ("full", "64"): 1, ("full", "4096"): 1, ("linger", "4"): 1}
    assert counted(db, "batches") == bounds
    assert counted(db, "batch_images") == {("full",): 4164, ("linger",): 3}
