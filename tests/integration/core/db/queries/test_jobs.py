from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from core import enums, errors
from core.db.queries import claims as claim_queries
from core.db.queries import deletions, invariants, job_lists, jobs, retention
from core.maintenance import reaper
from tests.support import factories

BAD = errors.ImageFailed("unsupported_format", "Not an image.")


def test_a_new_job_is_queued_with_all_its_images(db, owner):
    """A job's images wait in the order in which they came."""
    id_ = factories.create_job(db, owner, "b", "a", "c", priority=enums.Priority.INTERACTIVE, metadata={"who": "me"})
    row = factories.get_job(db, id_)
    assert (row.status, row.total, row.metadata, row.priority) == ("queued", 3, {"who": "me"}, 0)
    assert factories.job_counts(db, id_) == {"queued": 3}
    assert row.sealed_at is not None
    assert row.started_at is row.finished_at is None
    assert [claim.name for claim in factories.claim_images(db)] == ["b", "a", "c"]


def test_an_image_with_a_bad_header_has_failed_at_once(db, owner):
    """An image that the header check rejects has its result in the same transaction."""
    id_ = db.write(
        factories.insert_job, factories.new_job(owner), [factories.new_image("good"), factories.new_image("bad", BAD)]
    )
    assert factories.job_counts(db, id_) == {"queued": 1, "failed": 1}
    assert factories.result_names(db) == ["bad"]
    assert [claim.name for claim in factories.claim_images(db)] == ["good"]


def test_a_job_of_bad_images_alone_has_failed_and_ended(db, owner):
    """A job without work is finished at once."""
    id_ = db.write(factories.insert_job, factories.new_job(owner), [factories.new_image("bad", BAD)])
    row = factories.get_job(db, id_)
    assert row.status == "failed"
    assert row.finished_at is not None


def test_the_same_key_and_content_give_the_same_job(db, owner):
    """A client that retries its POST does not order twice."""
    again = [factories.create_job(db, owner, "a", idempotency_key="k", fingerprint="f") for _ in range(3)]
    assert len(set(again)) == 1
    assert factories.image_states(db) == {"a": ("queued", 0)}


def test_the_same_key_with_other_content_is_refused(db, owner):
    """A key that was used for something else is a mistake of the client's."""
    factories.create_job(db, owner, "a", idempotency_key="k", fingerprint="f")
    with pytest.raises(errors.IdempotencyMismatch):
        factories.create_job(db, owner, "b", idempotency_key="k", fingerprint="other")
    assert set(factories.image_states(db)) == {"a"}


def test_the_same_key_of_another_owner_is_another_job(db, owner):
    """Keys of different people do not meet."""
    other = factories.create_key(db)
    one = factories.create_job(db, owner, "a", idempotency_key="k", fingerprint="f")
    assert one != factories.create_job(db, other, "a", idempotency_key="k", fingerprint="f")


def test_jobs_without_a_key_are_never_the_same(db, owner):
    """Two orders without a key are two jobs, however alike."""
    assert factories.create_job(db, owner, "a", fingerprint="f") != factories.create_job(
        db, owner, "a", fingerprint="f"
    )


def test_orders_that_come_at_once_are_taken_as_each_by_itself_would_be(db, owner):
    """Each has its own images, timestamps and status, also a repeat and one that has failed."""
    keyed = {"idempotency_key": "k", "fingerprint": "f"}
    orders = [
        (factories.new_job(owner), [factories.new_image("a"), factories.new_image("b")]),
        (factories.new_job(owner, sealed=False, expires_in=60.0), []),
        (factories.new_job(owner, **keyed), [factories.new_image("c")]),
        (factories.new_job(owner, model="other", fresh=True), [factories.new_image("bad", BAD)]),
        (factories.new_job(owner, **keyed), [factories.new_image("c")]),
        (
            factories.new_job(owner, metadata={"é": [1, None]}),
            [factories.new_image("d"), factories.new_image("e", BAD)],
        ),
        (
            factories.new_job(owner, name="empty", webhook_url="https://hooks.example/", public_base_url="https://s/"),
            [],
        ),
    ]
    rows = db.write(jobs.insert_jobs, orders)
    assert rows == [db.read(jobs.get, row.id, owner) for row in rows]
    assert [row.total for row in rows] == [2, 0, 1, 1, 1, 2, 0]
    assert [row.status for row in rows] == ["queued", "queued", "queued", "failed", "queued", "running", "done"]
    assert [row.sealed_at is None for row in rows] == [False, True, False, False, False, False, False]
    assert [row.expires_at is None for row in rows] == [True, False, True, True, True, True, True]
    assert rows[2].id == rows[4].id
    assert sorted({row.id for row in rows}) == [row.id for index, row in enumerate(rows) if index != 4]
    assert factories.result_names(db) == ["bad", "e"]
    assert [claim.name for claim in factories.claim_images(db)] == ["a", "b", "c", "d"]


def test_orders_that_come_at_once_are_taken_all_or_none(db, owner):
    """Nothing is left of them when one cannot be."""
    factories.create_job(db, owner, "a", idempotency_key="k", fingerprint="f")
    other = (factories.new_job(owner, idempotency_key="k", fingerprint="another"), [factories.new_image("a")])
    with pytest.raises(errors.IdempotencyMismatch):
        db.write(jobs.insert_jobs, [(factories.new_job(owner), [factories.new_image("b")]), other])
    assert set(factories.image_states(db)) == {"a"}


def test_ids_of_jobs_rise(db, owner):
    """Newest first is by id."""
    ids = [factories.create_job(db, owner) for _ in range(20)]
    assert ids == sorted(ids)


def test_an_open_job_grows_and_a_repeated_name_changes_nothing(db, owner):
    """A folder goes up in pieces, and a piece may be sent twice."""
    id_ = factories.create_job(db, owner, sealed=False)
    assert db.write(jobs.add_images, id_, owner, [factories.new_image("a"), factories.new_image("b")]) == 2
    assert db.write(jobs.add_images, id_, owner, [factories.new_image("b", BAD), factories.new_image("c")]) == 1
    assert factories.image_states(db) == dict.fromkeys("abc", ("queued", 0))
    assert factories.job_counts(db, id_) == {"queued": 3}


def test_a_name_may_occur_in_two_jobs(db, owner):
    """A name is unique in its job, not in the world."""
    factories.create_job(db, owner, "a")
    assert factories.job_counts(db, factories.create_job(db, owner, "a")) == {"queued": 1}


def test_an_open_job_never_ends(db, owner):
    """While more may come, a job is not done, even if all that came is."""
    id_ = factories.create_job(db, owner, "a", sealed=False)
    factories.complete_claims(db, factories.claim_images(db))
    assert factories.get_job(db, id_).finished_at is None
    assert factories.get_job(db, id_).status == "running"
    db.write(jobs.seal, id_, owner)
    assert factories.get_job(db, id_).status == "done"
    assert factories.get_job(db, id_).finished_at is not None


def test_sealing_again_changes_nothing(db, owner):
    """Sealing is idempotent, to the moment."""
    id_ = factories.create_job(db, owner, "a", sealed=False)
    db.write(jobs.seal, id_, owner)
    first = factories.get_job(db, id_)
    db.write(jobs.seal, id_, owner)
    assert factories.get_job(db, id_) == first


def test_sealing_an_empty_job_ends_it(db, owner):
    """A job of an empty folder is finished at once."""
    id_ = factories.create_job(db, owner, sealed=False)
    db.write(jobs.seal, id_, owner)
    assert factories.get_job(db, id_).finished_at is not None


def test_a_sealed_job_takes_no_new_name_but_shrugs_at_a_known_one(db, owner):
    """A late repeat of a part is accepted; a new image is an error."""
    id_ = factories.create_job(db, owner, "a")
    assert db.write(jobs.add_images, id_, owner, [factories.new_image("a")]) == 0
    with pytest.raises(errors.JobSealed):
        db.write(jobs.add_images, id_, owner, [factories.new_image("a"), factories.new_image("b")])
    assert set(factories.image_states(db)) == {"a"}


@pytest.mark.parametrize("change", [jobs.seal, jobs.cancel, lambda c, id_, owner: jobs.add_images(c, id_, owner, [])])
def test_only_its_owner_changes_a_job(db, owner, change):
    """Another owner's job does not exist."""
    other = factories.create_key(db)
    id_ = factories.create_job(db, owner, "a", sealed=False)
    before = factories.get_job(db, id_)
    with pytest.raises(errors.JobNotFound):
        db.write(change, id_, other)
    assert factories.get_job(db, id_) == before


def test_only_its_owner_and_admins_see_a_job(db, owner):
    """`owner` None is the admin."""
    other = factories.create_key(db)
    id_ = factories.create_job(db, owner, "a")
    assert db.read(jobs.get, id_, owner) == db.read(jobs.get, id_, None)
    with pytest.raises(errors.JobNotFound):
        db.read(jobs.get, id_, other)
    assert listed_ids(db, owner=other) == []
    assert listed_ids(db) == [id_]


def test_cancelling_keeps_what_is_done_and_calls_off_the_rest(db, owner):
    """Existing results stay; queued images are cancelled, with a result that says so."""
    id_ = factories.create_job(db, owner, "a", "b", "c", "d")
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    db.write(jobs.cancel, id_, owner)
    row = factories.get_job(db, id_)
    assert (row.status, factories.job_counts(db, id_)) == ("cancelled", {"done": 1, "cancelled": 3})
    assert row.finished_at is not None
    assert factories.result_names(db) == list("abcd")
    assert factories.claim_images(db) == []


def test_a_cancelled_job_ends_when_its_running_images_have(db, owner):
    """Claimed images are completed, and only then is the job finished."""
    id_ = factories.create_job(db, owner, "a", "b")
    claims = factories.claim_images(db, limit=1)
    db.write(jobs.cancel, id_, owner)
    assert factories.get_job(db, id_).finished_at is None
    assert factories.job_counts(db, id_) == {"running": 1, "cancelled": 1}
    assert factories.complete_claims(db, claims) == 1
    row = factories.get_job(db, id_)
    assert (row.status, factories.job_counts(db, id_)) == ("cancelled", {"done": 1, "cancelled": 1})
    assert row.finished_at is not None


def test_cancelling_again_changes_nothing(db, owner):
    """Cancelling is idempotent, to the moment."""
    id_ = factories.create_job(db, owner, "a", "b")
    db.write(jobs.cancel, id_, owner)
    first = factories.get_job(db, id_)
    db.write(jobs.cancel, id_, owner)
    assert factories.get_job(db, id_) == first


def test_cancelling_a_job_that_is_done_leaves_it_done(db, owner):
    """A late cancellation changes nothing."""
    id_ = factories.create_job(db, owner, "a")
    factories.complete_claims(db, factories.claim_images(db))
    first = factories.get_job(db, id_)
    db.write(jobs.cancel, id_, owner)
    assert factories.get_job(db, id_) == first
    assert first.status == "done"


def test_cancelling_an_open_job_seals_it(db, owner):
    """Nothing is added to what was called off."""
    id_ = factories.create_job(db, owner, "a", sealed=False)
    db.write(jobs.cancel, id_, owner)
    with pytest.raises(errors.JobSealed):
        db.write(jobs.add_images, id_, owner, [factories.new_image("b")])


def reap_in_steps(db, monkeypatch):
    """Let the reaper end two images in each transaction, without a limit of time."""
    monkeypatch.setattr(reaper, "MAX_ENDING_SECONDS", 60.0)
    reaper.reap(db, max_attempts=3)


def test_a_large_job_is_cancelled_step_by_step(db, owner, monkeypatch):
    """After each step the counts are right; the reaper goes on, also past the deadline, and a repeat does."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 2)
    id_ = factories.create_job(db, owner, *"abcdefghi", expires_in=3600.0)
    claims = factories.claim_images(db, limit=1)
    db.write(jobs.cancel, id_, owner)
    first = factories.get_job(db, id_)
    assert first.cancelled_at is not None
    assert first.sealed_at is not None
    assert factories.job_counts(db, id_) == {"queued": 6, "running": 1, "cancelled": 2}
    db.write(jobs.cancel, id_, owner)
    assert factories.job_counts(db, id_) == {"queued": 4, "running": 1, "cancelled": 4}
    assert (factories.get_job(db, id_).cancelled_at, db.read(invariants.find_defects)) == (first.cancelled_at, {})
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))))
    reap_in_steps(db, monkeypatch)
    assert factories.job_counts(db, id_) == {"running": 1, "cancelled": 8}
    factories.complete_claims(db, claims)
    assert (factories.get_job(db, id_).status, db.read(invariants.find_defects)) == ("cancelled", {})
    assert len(factories.result_names(db)) == 9


def test_a_large_job_expires_step_by_step(db, owner, monkeypatch):
    """All jobs together, and each is finished with its last image."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 2)
    ids = [factories.create_job(db, owner, *"abcde", expires_in=3600.0) for _ in range(2)]
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))))
    db.write(jobs.expire)
    assert sum(factories.job_counts(db, id_).get("expired", 0) for id_ in ids) == 2
    assert db.read(invariants.find_defects) == {}
    reap_in_steps(db, monkeypatch)
    assert [factories.job_counts(db, id_) for id_ in ids] == [{"expired": 5}] * 2
    assert all(factories.get_job(db, id_).finished_at is not None for id_ in ids)
    assert db.read(invariants.find_defects) == {}


def test_no_worker_gets_the_images_of_a_large_job_that_was_deleted(db, owner, monkeypatch):
    """The reaper cancels those that the deletion has left."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 2)
    id_ = factories.create_job(db, owner, *"abcde")
    db.write(deletions.delete_job, id_, owner, owner)
    reap_in_steps(db, monkeypatch)
    assert factories.claim_images(db) == []
    assert db.read(invariants.find_defects) == {}


def test_images_of_a_deleted_job_that_have_not_ended_count_as_cancelled(db, owner, monkeypatch):
    """So that nothing of it is left for the reaper, also if a worker holds one."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 1)
    id_ = factories.create_job(db, owner, *"abc")
    claims = factories.claim_images(db, limit=1)
    db.write(deletions.delete_job, id_, owner, owner)
    assert list(db.read(jobs.list_ending)) == [id_]
    db.write(retention.deletion_step, id_)
    assert db.read(jobs.list_ending) == []
    assert factories.complete_claims(db, claims) == 0
    row = db.read(lambda c: c.execute(sa.select(factories.JOBS)).one())
    assert (row.total, row.cancelled, db.read(invariants.find_defects)) == (3, 3, {})


def test_a_step_leaves_a_job_alone_that_another_transaction_holds(postgres_db, monkeypatch):
    """It does not wait for the lock: several reapers would wait for each other."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 1)
    owner = factories.create_key(postgres_db, "owner")
    id_ = factories.create_job(postgres_db, owner, "a", "b")
    postgres_db.write(jobs.cancel, id_, owner)
    ids = postgres_db.read(jobs.queued_ids, id_, limit=9)
    with postgres_db.engine.begin() as conn:
        jobs.lock(conn, [id_])
        postgres_db.write(jobs.end_step, id_, ids)
    assert factories.job_counts(postgres_db, id_) == {"queued": 1, "cancelled": 1}
    postgres_db.write(jobs.end_step, id_, ids)
    assert factories.job_counts(postgres_db, id_) == {"cancelled": 2}


def test_what_a_worker_hands_back_after_cancelling_is_not_classified(db, owner):
    """A job that was called off ends, also if its last image comes back unfinished."""
    id_ = factories.create_job(db, owner, "a")
    claims = factories.claim_images(db)
    db.write(jobs.cancel, id_, owner)
    db.write(claim_queries.release, claims)
    db.write(jobs.cancel, id_, owner)  # at the latest when it is called off again
    assert factories.claim_images(db) == []
    row = factories.get_job(db, id_)
    assert (row.status, factories.job_counts(db, id_)) == ("cancelled", {"cancelled": 1})


def test_the_status_of_a_job_in_every_stage(db, owner):
    """Queued, running from the first claim on, between batches too, and done at the end."""
    id_ = factories.create_job(db, owner, "a", "b")
    stages = [factories.get_job(db, id_).status]
    first = factories.claim_images(db, limit=1)
    stages.append(factories.get_job(db, id_).status)
    factories.complete_claims(db, first)
    stages.append(factories.get_job(db, id_).status)
    factories.complete_claims(db, factories.claim_images(db))
    stages.append(factories.get_job(db, id_).status)
    assert stages == ["queued", "running", "running", "done"]


def test_a_job_is_done_if_one_of_its_images_is_and_failed_if_none(db, owner):
    """The best of its images speaks for a job."""
    mixed, failed = factories.create_job(db, owner, "a", "b"), factories.create_job(db, owner, "c", "d")
    claims = {claim.name: claim for claim in factories.claim_images(db)}
    bad = [factories.outcome(claims[name], label=None, error_code="undecodable", error_detail="No.") for name in "bcd"]
    db.write(claim_queries.finish, [factories.outcome(claims["a"]), *bad], factories.MODEL_REF)
    assert (factories.get_job(db, mixed).status, factories.job_counts(db, mixed)) == ("done", {"done": 1, "failed": 1})
    assert (factories.get_job(db, failed).status, factories.job_counts(db, failed)) == ("failed", {"failed": 2})


def test_times_of_a_job_are_utc_and_in_order(db, owner):
    """Created, sealed, started, finished: by one clock, the database's."""
    id_ = factories.create_job(db, owner, "a")
    factories.complete_claims(db, factories.claim_images(db))
    row = factories.get_job(db, id_)
    times = [row.created_at, row.sealed_at, row.started_at, row.finished_at]
    assert times == sorted(times)
    assert all(moment.utcoffset().total_seconds() == 0 for moment in times)


def at(hour):
    """A moment."""
    return datetime(2026, 1, 31, hour, tzinfo=UTC)


def make_at(db, job_id, hour):
    """Let a job have been made then."""
    then = sa.update(factories.JOBS).where(factories.JOBS.c.id == job_id).values(created_at=at(hour))
    db.write(lambda c: c.execute(then))


def listed_ids(db, after=None, limit=9, **wanted):
    """The ids of a page of jobs."""
    return [row.id for row in db.read(job_lists.list_page, job_lists.JobFilter(**wanted), limit=limit, after=after)]


def test_pages_of_jobs_meet_every_job_once(db, owner):
    """Newest first, each page from beyond the place of the one before, also where many were made at one moment."""
    ids = [factories.create_job(db, owner) for _ in range(9)]
    for id_, hour in zip(ids, (0, 1, 1, 1, 1, 1, 2, 3, 4), strict=True):
        make_at(db, id_, hour)
    seen, after = [], None
    while not seen or after is not None:
        page = db.read(job_lists.list_page, job_lists.JobFilter(owner=owner), limit=2, after=after)
        seen += [row.id for row in page]
        after = page.next_cursor
    assert seen == ids[::-1]


def test_jobs_of_a_rare_status_are_found_a_stretch_at_a_time(db, owner):
    """Pages that look at three jobs each meet every one of those asked for, and then end."""
    ids = [factories.create_job(db, owner, f"{n}") for n in range(10)]
    for id_ in (ids[1], ids[8]):
        db.write(jobs.cancel, id_, owner)
    seen, after = [], None
    while not seen or after is not None:
        page = db.read(
            job_lists.list_page, job_lists.JobFilter(status="cancelled"), limit=2, after=after, max_scanned=3
        )
        seen.append([row.id for row in page])
        after = page.next_cursor
    assert seen == [[ids[8]], [], [ids[1]], []]


def test_jobs_can_be_asked_for_by_status(db, owner):
    """Every stage has its own list."""
    factories.create_job(db, owner, "a")
    factories.complete_claims(db, factories.claim_images(db))
    waiting = factories.create_job(db, owner, "b")
    called_off = factories.create_job(db, owner, "c")
    db.write(jobs.cancel, called_off, owner)
    assert listed_ids(db, owner=owner, status="queued") == [waiting]
    assert listed_ids(db, owner=owner, status="cancelled") == [called_off]
    assert len(listed_ids(db, owner=owner, status="done")) == 1
    assert listed_ids(db, owner=owner, status="running") == []


def test_jobs_can_be_asked_for_by_owner_model_and_time(db, owner):
    """Alone and together; `since` is taken in, `until` is not."""
    other = factories.create_key(db)
    ids = [factories.create_job(db, who, model=model) for who, model in ((owner, "m"), (other, "m"), (owner, "n"))]
    for hour, id_ in enumerate(ids):
        make_at(db, id_, hour)
    assert listed_ids(db) == ids[::-1]
    assert listed_ids(db, owner=owner) == [ids[2], ids[0]]
    assert listed_ids(db, model="m") == [ids[1], ids[0]]
    assert listed_ids(db, owner=other, model="n") == []
    assert listed_ids(db, since=at(1)) == [ids[2], ids[1]]
    assert listed_ids(db, until=at(1)) == [ids[0]]
    assert listed_ids(db, since=at(1), until=at(2), model="m") == [ids[1]]
