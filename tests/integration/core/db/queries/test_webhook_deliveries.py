"""However a job ends, exactly one delivery is written with its end, and none before."""

import concurrent.futures

import pytest
import sqlalchemy as sa

from core import errors
from core.db import tables
from core.db.queries import claims as claim_queries
from core.db.queries import deletions, invariants, jobs, retries, webhook_deliveries, webhook_secrets
from core.db.queries import retention as retention_queries
from core.maintenance import reaper, retention
from core.storage import local
from core.webhooks import payload, retry_schedule
from tests.support import factories

HOOK = {"webhook_url": "https://hooks.example/sortbelt", "public_base_url": "https://sortbelt.example/"}
DELIVERIES = tables.WebhookDelivery.__table__


def log(db):
    """All deliveries, oldest first."""
    return db.read(lambda c: c.execute(sa.select(DELIVERIES).order_by(DELIVERIES.c.id)).all())


def hooked(db, owner, *names, **fields):
    """A job with a webhook."""
    return factories.create_job(db, owner, *names, **HOOK, **fields)


def finished(db, owner):
    id_ = hooked(db, owner, "a", "b")
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    assert log(db) == []
    factories.complete_claims(db, factories.claim_images(db))
    return id_


def failed(db, owner):
    id_ = hooked(db, owner, "a")
    factories.complete_claims(
        db, factories.claim_images(db), label=None, confidence=None, scores=None, error_code="undecodable"
    )
    return id_


def cancelled(db, owner):
    id_ = hooked(db, owner, "a", "b")
    db.write(jobs.cancel, id_, owner)
    return id_


def cancelled_while_running(db, owner):
    id_ = hooked(db, owner, "a", "b")
    claims = factories.claim_images(db, limit=1)
    db.write(jobs.cancel, id_, owner)
    assert log(db) == []
    factories.complete_claims(db, claims)
    return id_


def cancelled_and_handed_back(db, owner):
    id_ = hooked(db, owner, "a")
    claims = factories.claim_images(db)
    db.write(jobs.cancel, id_, owner)
    assert log(db) == []
    db.write(claim_queries.release, claims)
    return id_


def expired(db, owner):
    id_ = hooked(db, owner, "a", expires_in=60)
    past = sa.update(factories.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    reaper.reap(db, max_attempts=3)
    return id_


def given_up_at_the_cap(db, owner):
    id_ = hooked(db, owner, "a")
    factories.claim_images(db)
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=1)
    return id_


def condemned_by_the_header(db, owner):
    bad = factories.new_image("a", errors.ImageFailed("undecodable", "Not an image."))
    return db.write(factories.insert_job, factories.new_job(owner, **HOOK), [bad])


def known_already(db, owner):
    factories.make_live(db)
    factories.create_job(db, owner, "a")
    factories.complete_claims(db, factories.claim_images(db))
    return hooked(db, owner, "a")


def sealed_after_the_last(db, owner):
    id_ = hooked(db, owner, "a", sealed=False)
    factories.complete_claims(db, factories.claim_images(db))
    assert log(db) == []
    db.write(jobs.seal, id_, owner)
    return id_


def sealed_without_any(db, owner):
    id_ = hooked(db, owner, sealed=False)
    db.write(jobs.seal, id_, owner)
    return id_


def tried_again(db, owner):
    """The retry's own end: that of the first job is taken out of the count."""
    first = hooked(db, owner, "a")
    factories.complete_claims(
        db, factories.claim_images(db), label=None, confidence=None, scores=None, error_code="undecodable"
    )
    db.write(lambda c: c.execute(sa.delete(DELIVERIES)))
    id_ = db.write(retries.create_retry, first, owner)
    assert log(db) == []
    factories.complete_claims(db, factories.claim_images(db))
    db.write(
        lambda c: c.execute(sa.update(factories.JOBS).where(factories.JOBS.c.id == first).values(webhook_url=None))
    )
    return id_


ENDS = {
    finished: "done",
    failed: "failed",
    cancelled: "cancelled",
    cancelled_while_running: "cancelled",
    cancelled_and_handed_back: "cancelled",
    expired: "expired",
    given_up_at_the_cap: "failed",
    condemned_by_the_header: "failed",
    known_already: "done",
    sealed_after_the_last: "done",
    sealed_without_any: "done",
    tried_again: "done",
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_finished_job_has_exactly_one_delivery(db, owner, end):
    """In the transaction that ends it; and nothing that comes later adds another."""
    id_ = end(db, owner)
    job = factories.get_job(db, id_)
    db.write(jobs.seal, id_, owner)
    db.write(jobs.cancel, id_, owner)
    reaper.reap(db, max_attempts=1)

    (row,) = log(db)
    assert (job.status, job.finished_at is not None) == (ENDS[end], True)
    assert (row.job_id, row.api_key_id, row.url, row.event) == (id_, owner, HOOK["webhook_url"], "job.completed")
    assert (row.status, row.attempts, row.lease_until) == ("pending", 0, None)
    assert db.read(invariants.jobs_without_delivery) == 0


def test_the_webhook_of_a_deleted_job_is_due_when_the_job_is_emptied(db, owner, monkeypatch):
    """Whatever workers hold or is queued: then its counts sum up to the total, and every attempt sends the same."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 1)
    monkeypatch.setattr(retention_queries, "IMAGES_PER_STEP", 2)
    id_ = hooked(db, owner, *"abcde")
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    held = factories.claim_images(db, limit=1)
    db.write(deletions.delete_job, id_, owner, owner)
    assert [row.status for row in log(db)] == ["pending"]
    assert db.read(invariants.jobs_without_delivery) == 0
    db.write(webhook_deliveries.replay, log(db)[0].id, owner)
    for _ in range(2):
        assert claim(db) == []
        db.write(retention_queries.deletion_step)
    assert factories.complete_claims(db, held) == 0
    db.write(retention_queries.deletion_step)
    (found,) = claim(db)
    job = db.read(jobs.get_many, [id_])[id_]
    assert (job.total, job.done, job.cancelled, job.status) == (5, 1, 4, "cancelled")
    assert not db.write(retention_queries.deletion_step).jobs
    db.write(webhook_deliveries.record_attempt, found, retry_schedule.DeliveryAttempt(200, None))
    while db.write(retention_queries.deletion_step).jobs:
        pass
    assert log(db) == []


def test_the_webhook_of_a_deleted_job_is_sent_although_an_older_program_has_emptied_it(db, owner):
    """During a rolling upgrade."""
    id_ = hooked(db, owner, "a")
    factories.claim_images(db)
    db.write(deletions.delete_job, id_, owner, owner)
    db.write(lambda c: c.execute(sa.delete(factories.IMAGES)))
    db.write(retention_queries.deletion_step)
    assert [found.job_id for found in claim(db)] == [id_]


def test_a_repeated_submission_has_one_delivery(db, owner):
    """The second is the first."""
    bad = factories.new_image("a", errors.ImageFailed("undecodable", "Not an image."))
    order = factories.new_job(owner, idempotency_key="k", fingerprint="f", **HOOK)
    assert db.write(factories.insert_job, order, [bad]) == db.write(factories.insert_job, order, [bad])
    assert len(log(db)) == 1


def test_a_rolled_back_transaction_has_no_delivery(db, owner):
    """The delivery and the end are one."""
    hooked(db, owner, "a")
    claims = factories.claim_images(db)

    def break_down(c):
        claim_queries.finish(c, [factories.outcome(claim) for claim in claims], factories.MODEL_REF)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.write(break_down)
    assert log(db) == []
    assert factories.complete_claims(db, claims) == 1
    assert len(log(db)) == 1


def test_a_job_without_webhook_has_no_delivery(db, owner):
    """Most jobs have none."""
    factories.create_job(db, owner, "a")
    factories.complete_claims(db, factories.claim_images(db))
    assert log(db) == []


def ended(db, owner, count):
    """So many deliveries that are due."""
    for number in range(count):
        hooked(db, owner, f"{number}")
    factories.complete_claims(db, factories.claim_images(db, limit=1000))
    return log(db)


def claim(db, **options):
    return db.write(webhook_deliveries.claim, **{"limit": 100, "max_per_owner": 100} | options)


def set_all(db, **values):
    """Change all deliveries by hand."""
    values = {name: sa.text(value) if isinstance(value, str) else value for name, value in values.items()}
    db.write(lambda c: c.execute(sa.update(DELIVERIES).values(values)))


PAST = "'2020-01-01 00:00:00'"
GOOD = retry_schedule.DeliveryAttempt(204, None)
BAD = retry_schedule.DeliveryAttempt(500, "The receiver answered 500, which is not 2xx.")


def test_concurrent_dispatchers_share_due_deliveries(db, owner):
    """Six threads take forty."""
    ended(db, owner, 40)

    def work_off(_):
        taken, empty = [], 0
        while empty < 3:
            some = claim(db, limit=3)
            empty = 0 if some else empty + 1
            taken += [one.id for one in some]
        return taken

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        taken = [id_ for part in pool.map(work_off, range(6)) for id_ in part]
    assert sorted(taken) == sorted({row.id for row in log(db)})


def test_deliveries_of_a_lost_dispatcher_are_claimed_again(db, owner):
    """With the same id; the lost dispatcher's outcome is not written."""
    ended(db, owner, 1)
    (first,) = claim(db)
    assert claim(db) == []
    set_all(db, lease_until=PAST)
    (second,) = claim(db)
    assert (second.id, second.attempts) == (first.id, 2)
    assert not db.write(webhook_deliveries.record_attempt, first, GOOD)
    assert db.write(webhook_deliveries.record_attempt, second, GOOD)
    assert not db.write(webhook_deliveries.record_attempt, second, BAD)
    assert (log(db)[0].status, log(db)[0].response_status) == ("delivered", 204)
    assert not db.read(webhook_deliveries.has_due)


def test_a_dispatcher_lost_during_the_last_attempt_ends_the_delivery(db, owner):
    """Attempts are counted when they begin, so that nothing is tried for ever."""
    ended(db, owner, 1)
    set_all(db, attempts=10, lease_until=PAST)
    assert claim(db) == []
    (row,) = log(db)
    assert (row.status, row.next_attempt_at, row.ended_at is not None) == ("failed", None, True)
    assert "lost" in row.error


def test_one_owner_is_not_given_all_hands(db, owner):
    """However many of one are due first, another's come in the same claim; and who is busy enough waits."""
    other = factories.create_key(db)
    ended(db, owner, 10)
    ended(db, other, 2)
    taken = claim(db, limit=8, max_per_owner=4)
    assert sorted(one.owner for one in taken) == sorted([owner] * 4 + [other] * 2)
    assert claim(db, limit=8, max_per_owner=4, in_flight={owner: 4}) == []
    assert len(claim(db, limit=8, max_per_owner=4, in_flight={owner: 3, other: 2})) == 1
    assert len(claim(db, limit=8, max_per_owner=4)) == 4


def test_a_replay_begins_anew_under_the_same_id(db, owner):
    """A finished delivery has all attempts again; a pending one is due now; a leased one is unchanged."""
    (row,) = ended(db, owner, 1)
    (first,) = claim(db)
    in_hand = db.write(webhook_deliveries.replay, row.id, owner)
    assert (in_hand.attempts, in_hand.lease_until) == (1, first.lease_until)
    assert claim(db) == []
    db.write(webhook_deliveries.record_attempt, first, BAD)
    assert claim(db) == []
    db.write(webhook_deliveries.replay, row.id, owner)
    (second,) = claim(db)
    assert second.attempts == 2
    db.write(webhook_deliveries.record_attempt, second, retry_schedule.DeliveryAttempt(410, "Gone."))
    assert log(db)[0].status == "disabled"
    again = db.write(webhook_deliveries.replay, row.id, owner)
    assert (again.status, again.attempts, again.ended_at) == ("pending", 0, None)
    assert claim(db)[0].id == row.id
    with pytest.raises(errors.DeliveryNotFound):
        db.write(webhook_deliveries.replay, row.id, "019a0000-0000-7000-8000-000000000000")


def test_deliveries_due_for_a_minute_are_overdue(db, owner):
    """Not what is just due, in hand, or waits for its time."""
    ended(db, owner, 1)
    assert db.read(webhook_deliveries.count_overdue) == 0
    set_all(db, next_attempt_at=PAST)
    assert db.read(webhook_deliveries.count_overdue) == 1
    (claimed,) = claim(db)
    assert db.read(webhook_deliveries.count_overdue) == 0
    db.write(webhook_deliveries.record_attempt, claimed, BAD)
    assert db.read(webhook_deliveries.count_overdue) == 0


def test_the_log_of_purged_jobs_goes_but_not_what_is_still_to_be_sent(db, owner, tmp_path):
    """A purge breaks no promise."""
    rows = ended(db, owner, 2)
    (first,) = claim(db, limit=1)
    db.write(webhook_deliveries.record_attempt, first, GOOD)
    retention.run_purge(db, local.LocalBlobStore(tmp_path), days=1)
    assert len(log(db)) == 2
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(finished_at=sa.text(PAST))))
    retention.run_purge(db, local.LocalBlobStore(tmp_path), days=1)
    assert [row.id for row in log(db)] == [row.id for row in rows if row.id != first.id]
    (second,) = claim(db)
    job = db.read(jobs.get_many, [second.job_id])[second.job_id]
    assert b'"status":"done"' in payload.build_payload(job, second.event)
    db.write(webhook_deliveries.record_attempt, second, GOOD)
    retention.run_purge(db, local.LocalBlobStore(tmp_path), days=1)
    assert log(db) == []


def test_a_secret_is_made_once_and_two_sign_while_it_is_changed(db, owner):
    """Asked for at once by many, it is one; changed twice, the first of all signs no more."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = {row.secret for row in pool.map(lambda _: db.write(webhook_secrets.get_or_create, owner), range(4))}
    (first,) = made
    assert db.write(webhook_secrets.valid_secrets, owner) == [first]
    second = db.write(webhook_secrets.rotate, owner).secret
    assert db.write(webhook_secrets.valid_secrets, owner) == [second, first]
    third = db.write(webhook_secrets.rotate, owner).secret
    assert db.write(webhook_secrets.valid_secrets, owner) == [third, second]
    secrets = tables.WebhookSecret.__table__
    db.write(lambda c: c.execute(sa.update(secrets).values(previous_expires_at=sa.text(PAST))))
    assert db.write(webhook_secrets.valid_secrets, owner) == [third]
    assert len({first, second, third}) == 3


def test_a_look_for_what_is_due_reads_only_what_is_not_over(db, owner):
    """However long the log: it happens every second."""
    from tests.integration.core.db.queries.test_query_plans import explained, statements

    rows = [
        {"id": f"019a0000-0000-7000-8000-{number:012}", "job_id": job, "api_key_id": owner, "url": HOOK["webhook_url"]}
        for number, job in enumerate(factories.create_job(db, owner) for _ in range(300))
    ]
    old = sa.insert(DELIVERIES).values(event="job.completed", status="delivered", attempts=1)
    db.write(lambda c: c.execute(old.values(created_at=sa.func.current_timestamp()), rows))
    ended(db, owner, 3)
    db.write(lambda c: c.exec_driver_sql("ANALYZE"))
    looks = statements(db, lambda: db.read(webhook_deliveries.has_due)) + statements(db, lambda: claim(db, limit=1))
    for statement, parameters in (look for look in looks if "webhook_deliveries" in look[0]):
        text = explained(db, statement, parameters)
        assert "ix_deliveries_pending" in text, text
        assert "Seq Scan on deliveries" not in text


@pytest.mark.parametrize("status", ["failed", "pending", "delivered"])
@pytest.mark.parametrize("max_scanned", [1, 2, 9])
def test_a_page_of_deliveries_of_a_status_scans_a_limited_number(db, owner, status, max_scanned):
    """It may be short or empty, and still have a next one; together they have each delivery once, newest first."""
    job_ids = [cancelled(db, owner) for _ in range(6)]
    failures = sa.update(DELIVERIES).where(DELIVERIES.c.job_id.in_(job_ids[1:3])).values(status="failed")
    db.write(lambda c: c.execute(failures))
    expected = {"failed": job_ids[2:0:-1], "pending": [*job_ids[:2:-1], job_ids[0]], "delivered": []}[status]
    for owned_by in (owner, None):
        for limit in (1, 2, 9):
            wanted = {"limit": limit, "filters": {"status": status, "job_id": None}, "max_scanned": max_scanned}
            pages = [db.read(webhook_deliveries.list_page, owned_by, **wanted)]
            while (before := pages[-1].next_cursor) is not None:
                pages.append(db.read(webhook_deliveries.list_page, owned_by, before=before, **wanted))
            assert [row.job_id for page in pages for row in page] == expected
            assert status == "pending" or len(pages) >= 6 / max_scanned
    wanted["filters"]["job_id"] = job_ids[0]
    assert len(db.read(webhook_deliveries.list_page, owner, **wanted)) == (status == "pending")
