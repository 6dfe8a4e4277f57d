import sqlalchemy as sa

from core import enums
from core.db import clock, task_leases
from core.db.queries import gauges, jobs, scans, webhook_deliveries, workers
from tests.support import factories

BULK, INTERACTIVE = enums.Priority.BULK, enums.Priority.INTERACTIVE


def test_open_images_are_counted_by_model_and_priority(db, owner):
    """Queued and running together are what is open; what has ended is in none of them."""
    factories.create_job(db, owner, "a", "b", "c", priority=BULK)
    factories.create_job(db, owner, "d", priority=INTERACTIVE)
    other = factories.create_job(db, owner, "e", model="other", priority=BULK)
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    factories.claim_images(db, limit=2)
    seen = db.read(gauges.collect)
    assert seen.open == {(factories.MODEL, BULK): 3, ("other", BULK): 1}
    assert seen.running == {(factories.MODEL, BULK): 2}
    db.write(jobs.cancel, other, owner)
    assert ("other", BULK) not in db.read(gauges.collect).open


def test_the_oldest_is_the_one_that_is_next_and_only_what_waits_has_an_age(db, owner):
    """A claimed image is not queued any more."""
    first = factories.create_job(db, owner, "a", priority=BULK)
    factories.create_job(db, owner, "b", priority=BULK)
    old = sa.update(factories.JOBS).where(factories.JOBS.c.id == first).values(created_at=clock.now(-600))
    db.write(lambda c: c.execute(old))
    assert 599 < db.read(gauges.collect).oldest_seconds[factories.MODEL, BULK] < 660
    factories.claim_images(db, limit=1)
    assert 0 <= db.read(gauges.collect).oldest_seconds[factories.MODEL, BULK] < 60
    factories.claim_images(db, limit=1)
    assert db.read(gauges.collect).oldest_seconds == {}


def test_workers_and_webhooks_are_counted(db, owner):
    """Workers with a heartbeat; pending deliveries, and overdue ones."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    factories.create_job(db, owner, "a", webhook_url="https://example.org")
    factories.complete_claims(db, factories.claim_images(db))
    seen = db.read(gauges.collect)
    assert [worker.id for worker in seen.workers] == ["w1"]
    assert (seen.webhooks_pending, seen.webhooks_overdue) == (1, 0)
    late = sa.update(webhook_deliveries.DELIVERIES).values(next_attempt_at=clock.now(-task_leases.OVERDUE_SECONDS - 5))
    db.write(lambda c: c.execute(late))
    assert db.read(gauges.collect).webhooks_overdue == 1


def test_overdue_scans_are_counted(db, owner):
    """As for webhooks: nothing else shows that the dispatcher is down."""
    job = db.write(factories.insert_job, factories.new_job(owner, sealed=False), [])
    db.write(scans.create, job, owner, scans.NewScan("camera"))
    assert db.read(gauges.collect).scans_overdue == 0
    db.write(
        lambda c: c.execute(sa.update(scans.SCANS).values(next_attempt_at=clock.now(-task_leases.OVERDUE_SECONDS - 5)))
    )
    assert db.read(gauges.collect).scans_overdue == 1
