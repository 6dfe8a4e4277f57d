import threading
from collections import Counter

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from jobs import clock, errors
from jobs.store import jobs, tallies, work
from tests.jobs import making

MODEL = making.MODEL


def counted(db, name="images"):
    """What was counted under a name."""
    return {tuple(labels): n for (what, *labels), n in db.read(tallies.totals).items() if what == name}


def test_every_result_is_counted_in_the_transaction_that_writes_it(db, owner):
    """Whatever way an image ends: the counts are those of the table, by status, error and model."""
    bad = making.image("bad", errors.BadPicture("undecodable", "No."))
    db.write(jobs.create, making.order(owner), [bad, making.image("a")])
    making.finish(db, making.claim(db))
    making.job(db, owner, "b", "c")
    making.finish(db, making.claim(db), label=None, error_code="timed_out")
    making.job(db, owner, "lost")
    making.claim(db)
    making.let_leases_end(db)
    db.write(work.rescue, max_attempts=1)
    db.write(jobs.cancel, making.job(db, owner, "d", "e"), owner)
    making.job(db, owner, "f", expires_in=3600)
    db.write(lambda c: c.execute(sa.update(making.JOBS).values(expires_at=clock.now(-1))))
    db.write(jobs.expire)
    columns = [making.RESULTS.c[name] for name in ("model", "status", "error_code")]
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
    """A commit that fails and is tried again counts once."""
    making.job(db, owner, "a")
    fates = [making.fate(claim) for claim in making.claim(db)]

    def fail(c):
        work.finish(c, fates, making.MAKER)
        c.exec_driver_sql("SELECT 1 FROM nothing")

    with pytest.raises((errors.DatabaseUnavailable, exc.SQLAlchemyError)):
        db.write(fail)
    assert counted(db) == {}
    db.write(work.finish, fates, making.MAKER)
    assert db.write(work.finish, fates, making.MAKER) == 0
    assert counted(db) == {(MODEL, "done", "", "false"): 1}


def test_many_count_at_once_and_nothing_is_lost(db):
    """Each adds to the same counts, in transactions of its own."""

    def count():
        for _ in range(25):
            db.write(tallies.add, {("x", "a"): 1, ("x", "b"): 0.5})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(db, "x") == {("a",): 100, ("b",): 50}


def test_a_batch_is_counted_by_its_reason_and_size(db):
    """By the bound that it is within, and how many images there were in all."""
    for size in (1, 3, 64, 4096):
        db.write(tallies.add_batch, tallies.Release.FULL, size)
    db.write(tallies.add_batch, tallies.Release.LINGER, 3)
    bounds = {("full", "1"): 1, ("full", "4"): 1, ("full", "64"): 1, ("full", "4096"): 1, ("linger", "4"): 1}
    assert counted(db, "batches") == bounds
    assert counted(db, "batch_images") == {("full",): 4164, ("linger",): 3}
