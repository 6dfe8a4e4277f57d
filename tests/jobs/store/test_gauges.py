import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import deliveries, gauges, jobs, scans, workers
from tests.jobs import making

BULK, INTERACTIVE = tables.Priority.BULK, tables.Priority.INTERACTIVE


def test_what_is_open_is_told_by_model_and_priority(db, owner):
    """Queued and running together are what is open; what has ended is in none of them."""
    making.job(db, owner, "a", "b", "c", priority=BULK)
    making.job(db, owner, "d", priority=INTERACTIVE)
    other = making.job(db, owner, "e", model="other", priority=BULK)
    making.finish(db, making.claim(db, limit=1))
    making.claim(db, limit=2)
    seen = db.read(gauges.look)
    assert seen.open == {(making.MODEL, BULK): 3, ("other", BULK): 1}
    assert seen.running == {(making.MODEL, BULK): 2}
    db.write(jobs.cancel, other, owner)
    assert ("other", BULK) not in db.read(gauges.look).open


def test_the_oldest_is_the_one_that_is_next_and_only_what_waits_has_an_age(db, owner):
    """What a worker has in hand waits no more."""
    first = making.job(db, owner, "a", priority=BULK)
    making.job(db, owner, "b", priority=BULK)
    old = sa.update(making.JOBS).where(making.JOBS.c.id == first).values(created_at=clock.now(-600))
    db.write(lambda c: c.execute(old))
    assert 599 < db.read(gauges.look).oldest_seconds[making.MODEL, BULK] < 660
    making.claim(db, limit=1)
    assert 0 <= db.read(gauges.look).oldest_seconds[making.MODEL, BULK] < 60
    making.claim(db, limit=1)
    assert db.read(gauges.look).oldest_seconds == {}


def test_workers_and_webhooks_are_told(db, owner):
    """Those that show life; those that are to be sent, and those that nobody sends."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    making.job(db, owner, "a", webhook="https://example.org")
    making.finish(db, making.claim(db))
    seen = db.read(gauges.look)
    assert [worker.id for worker in seen.workers] == ["w1"]
    assert (seen.webhooks_pending, seen.webhooks_overdue) == (1, 0)
    late = sa.update(deliveries.DELIVERIES).values(next_at=clock.now(-deliveries.LATE_SECONDS - 5))
    db.write(lambda c: c.execute(late))
    assert db.read(gauges.look).webhooks_overdue == 1


def test_scans_that_nobody_works_on_are_told(db, owner):
    """As webhooks are: by nothing else would one see that the courier is away."""
    job = db.write(jobs.create, making.order(owner, sealed=False), [])
    db.write(scans.order, job, owner, scans.NewScan("camera"))
    assert db.read(gauges.look).scans_overdue == 0
    db.write(lambda c: c.execute(sa.update(scans.SCANS).values(next_at=clock.now(-scans.LATE_SECONDS - 5))))
    assert db.read(gauges.look).scans_overdue == 1
