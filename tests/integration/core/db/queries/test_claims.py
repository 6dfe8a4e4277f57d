import pytest
import sqlalchemy as sa

from core import enums
from core.db.queries import claims as claim_queries
from core.db.queries import deletions, expired_leases, jobs, retention
from core.maintenance import reaper
from tests.support import factories, waiting

BULK, INTERACTIVE = enums.Priority.BULK, enums.Priority.INTERACTIVE


def names(claims):
    return [claim.name for claim in claims]


def test_images_are_claimed_by_priority_then_age(db, owner):
    """Interactive images come before bulk ones, and within one priority the oldest first."""
    factories.create_job(db, owner, "bulk 1", "bulk 2", priority=BULK)
    factories.create_job(db, owner, "now 1", "now 2", priority=INTERACTIVE)
    assert names(factories.claim_images(db, limit=2)) == ["now 1", "now 2"]
    assert names(factories.claim_images(db, limit=2)) == ["bulk 1", "bulk 2"]


def test_bulk_comes_first_where_that_is_asked_for(db, owner):
    """So that neither priority starves the other, a folder is served now and then before those who wait."""
    factories.create_job(db, owner, "now 1", "now 2", priority=INTERACTIVE)
    factories.create_job(db, owner, "bulk 1", priority=BULK)
    assert names(factories.claim_images(db, limit=2, bulk_first=True)) == ["bulk 1"]
    assert names(factories.claim_images(db, limit=1, bulk_first=True)) == ["now 1"]
    assert names(factories.claim_images(db, limit=1)) == ["now 2"]


def test_a_claim_takes_only_images_of_its_model(db, owner):
    """A batch never mixes models."""
    factories.create_job(db, owner, "a", model="another")
    factories.create_job(db, owner, "b")
    assert names(factories.claim_images(db)) == ["b"]


def test_what_is_claimed_is_not_claimed_again(db, owner):
    """Two claims share no image, and an empty queue gives an empty claim."""
    factories.create_job(db, owner, *"abcde")
    taken = [factories.claim_images(db, limit=2, worker=worker) for worker in ("w1", "w2", "w1", "w2")]
    assert [names(claims) for claims in taken] == [["a", "b"], ["c", "d"], ["e"], []]


def test_a_claim_says_what_a_worker_needs(db, owner):
    """Id, job, name, digest, attempt and moment; and the image says who holds it."""
    id_ = factories.create_job(db, owner, "a")
    (claim,) = factories.claim_images(db, worker="w7")
    assert (claim.job_id, claim.name, claim.sha256, claim.attempt) == (id_, "a", factories.new_image("a").sha256, 1)
    assert claim.claimed_at.utcoffset().total_seconds() == 0
    row = db.read(lambda c: c.execute(sa.select(factories.IMAGES)).one())
    assert (row.worker, row.status) == ("w7", "running")
    assert (row.lease_until - row.claimed_at).total_seconds() == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(("attempts", "batch_size"), [(0, 64), (1, 8), (2, 1), (3, 1), (99, 1)])
def test_suspect_batches_shrink_with_the_attempts(attempts, batch_size):
    """All, an eighth, one: what kills its worker is found, and its neighbours live on."""
    assert claim_queries.suspect_batch_size(64, attempts) == batch_size
    assert claim_queries.suspect_batch_size(1, attempts) == 1


def test_lost_images_are_claimed_in_smaller_batches(db, owner):
    """Sixteen together, then two, then one; and never mixed with such as were not."""
    factories.create_job(db, owner, *(f"{n:02}" for n in range(16)))
    assert len(factories.claim_images(db, limit=16)) == 16
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    factories.create_job(db, owner, "fresh")
    assert [claim.attempt for claim in factories.claim_images(db, limit=16)] == [2, 2]
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    assert [claim.attempt for claim in factories.claim_images(db, limit=16)] == [3]
    rest = [factories.claim_images(db, limit=16) for _ in range(9)]
    assert {claim.attempt for claims in rest for claim in claims} == {1, 2, 3}
    assert all(len({claim.attempt for claim in claims}) == 1 for claims in rest)
    assert "fresh" in names(rest[-1])


def test_another_who_is_just_taking_the_head_does_not_hide_the_rest(postgres_db, postgres_owner):
    """While one worker takes a lost image at the head, a second gets the fresh ones behind it."""
    factories.create_job(postgres_db, postgres_owner, "lost")
    factories.claim_images(postgres_db)
    factories.expire_leases(postgres_db)
    reaper.reap(postgres_db, max_attempts=3)
    factories.create_job(postgres_db, postgres_owner, "fresh 1", "fresh 2")
    with postgres_db.engine.connect() as first, first.begin():
        assert len(factories.claim_of_all_keys(first, "w1", limit=10)) == 1
        assert names(factories.claim_images(postgres_db, limit=10, worker="w2")) == ["fresh 1", "fresh 2"]


def test_finishing_writes_one_result_for_each_image(db, owner):
    """Label, confidence, scores, model and timings are in the row; the job is done."""
    id_ = factories.create_job(db, owner, "a", "b")
    claims = factories.claim_images(db)
    assert factories.complete_claims(db, claims, timings={"forward_ms": 1.5}) == 2
    rows = db.read(lambda c: c.execute(sa.select(factories.RESULTS)).all())
    assert len(rows) == 2
    for row in rows:
        assert (row.status, row.label, row.confidence) == ("done", "sushi", 0.9)
        assert (row.scores, row.timings) == ({"sushi": 0.9, "sandwich": 0.1}, {"forward_ms": 1.5})
        assert (row.model_name, row.model_version, row.model_digest) == (factories.MODEL, "1", "0" * 64)
        assert row.cached is False
    assert factories.get_job(db, id_).status == "done"


def test_finishing_again_writes_nothing(db, owner):
    """A commit whose answer was lost may be repeated."""
    id_ = factories.create_job(db, owner, "a")
    claims = factories.claim_images(db)
    assert [factories.complete_claims(db, claims), factories.complete_claims(db, claims)] == [1, 0]
    assert factories.job_counts(db, id_) == {"done": 1}


def test_finishing_nothing_is_fine(db):
    """An empty batch is allowed."""
    assert db.write(claim_queries.finish, [], factories.MODEL_REF).results == ()
    assert db.write(claim_queries.release, []) == 0


def test_a_zombie_writes_nothing(db, owner):
    """Whose lease was lost, and whose image another has, neither finishes nor releases it."""
    id_ = factories.create_job(db, owner, "a")
    zombie = factories.claim_images(db, worker="zombie")
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    heir = factories.claim_images(db, worker="heir")
    assert factories.complete_claims(db, zombie, label="wrong") == 0
    assert db.write(claim_queries.release, zombie) == 0
    assert factories.complete_claims(db, heir) == 1
    assert factories.complete_claims(db, zombie, label="wrong") == 0
    labels = db.read(lambda c: c.execute(sa.select(factories.RESULTS.c.label)).scalars().all())
    assert (labels, factories.job_counts(db, id_)) == (["sushi"], {"done": 1})


def test_a_zombie_whose_image_waits_again_writes_nothing(db, owner):
    """Between requeue and next claim the image has no holder."""
    factories.create_job(db, owner, "a")
    zombie = factories.claim_images(db)
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    assert factories.complete_claims(db, zombie) == 0
    assert factories.image_states(db) == {"a": ("queued", 1)}


def test_a_worker_that_handed_back_holds_nothing_of_its_heirs(db, owner):
    """Handing back gives the attempt back, so the next has the same number: the fence must hold all the same."""
    factories.create_job(db, owner, "a")
    first = factories.claim_images(db, worker="w1")
    assert db.write(claim_queries.release, first) == 1
    second = factories.claim_images(db, worker="w2")
    assert db.write(claim_queries.release, first) == 0  # repeated, because the answer to the first was lost
    assert factories.complete_claims(db, first, label="wrong") == 0
    assert factories.complete_claims(db, second) == 1


def test_a_late_worker_writes_nothing_for_the_images_after_deleted_ones(db, owner):
    """Their ids are new, also if the newest images were deleted, and the same worker holds them."""
    deleted = factories.create_job(db, owner, "cat", "dog")
    held = factories.claim_images(db)
    db.write(deletions.delete_job, deleted, owner, owner)
    while db.write(retention.deletion_step, deleted).jobs:
        pass
    job_id = factories.create_job(db, owner, "fish", "bird")
    assert len(factories.claim_images(db)) == 2
    assert factories.complete_claims(db, held) == 0
    assert factories.job_counts(db, job_id) == {"running": 2}


def test_a_deleted_image_has_its_receipt_and_the_next_one_is_another(db, owner):
    """On SQLite, the next image had the id of the newest one that was deleted, and so its receipt."""
    for name in ("cat", "dog"):
        factories.create_job(db, owner, name)
        (claim,) = factories.claim_images(db)
        factories.complete_claims(db, [claim])
        _, digest = db.write(deletions.delete_image, claim.image_id, owner, owner)
        assert digest == factories.new_image(name).sha256


def test_a_late_worker_may_still_complete_an_unclaimed_image(db, owner):
    """A lease that ran out a moment ago costs nothing, if the image was not taken meanwhile."""
    factories.create_job(db, owner, "a")
    claims = factories.claim_images(db)
    factories.expire_leases(db)
    assert factories.complete_claims(db, claims) == 1


def test_a_partly_lost_batch_keeps_what_is_its_own(db, owner):
    """Of four images two were lost: two results, and the counters say two."""
    id_ = factories.create_job(db, owner, *"abcd")
    claims = factories.claim_images(db)
    lost = sa.update(factories.IMAGES).where(factories.IMAGES.c.name.in_(["b", "c"]))
    db.write(lambda c: c.execute(lost.values(attempt=2, worker="heir")))
    assert factories.complete_claims(db, claims) == 2
    assert factories.result_names(db) == ["a", "d"]
    assert factories.job_counts(db, id_) == {"done": 2, "running": 2}


def test_a_batch_of_several_jobs_moves_the_counters_of_each(db, owner):
    """A batch takes what waits, whosoever it is."""
    ids = [factories.create_job(db, owner, *"abc"[:n]) for n in (1, 2, 3)]
    factories.complete_claims(db, factories.claim_images(db))
    assert [factories.job_counts(db, id_) for id_ in ids] == [{"done": 1}, {"done": 2}, {"done": 3}]
    assert {factories.get_job(db, id_).status for id_ in ids} == {"done"}


def test_releasing_gives_the_attempt_back(db, owner):
    """A released image is as if it had never been claimed."""
    id_ = factories.create_job(db, owner, "a", "b")
    claims = factories.claim_images(db)
    assert db.write(claim_queries.release, claims[:1]) == 1
    assert factories.image_states(db) == {"a": ("queued", 0), "b": ("running", 1)}
    assert factories.job_counts(db, id_) == {"queued": 1, "running": 1}
    assert names(factories.claim_images(db)) == ["a"]


def test_released_images_are_nobodys(db, owner):
    """The worker that handed back does not prolong them."""
    factories.create_job(db, owner, "a")
    claims = factories.claim_images(db)
    db.write(claim_queries.release, claims)
    assert db.write(claim_queries.extend_lease, claims, lease_seconds=30) == 0


def test_renewing_prolongs_what_one_holds_and_nothing_else(db, owner):
    """A heartbeat keeps the worker's own images from the rescue."""
    factories.create_job(db, owner, *"abc")
    mine = factories.claim_images(db, limit=2, worker="w1")
    factories.claim_images(db, limit=1, worker="w2")
    factories.expire_leases(db)
    assert db.write(claim_queries.extend_lease, mine, lease_seconds=30) == 2
    assert reaper.reap(db, max_attempts=3) == 1
    assert factories.image_states(db) == {"a": ("running", 1), "b": ("running", 1), "c": ("queued", 1)}


def test_renewing_does_not_take_back_what_was_lost(db, owner):
    """A heartbeat that comes too late prolongs nothing of another's."""
    factories.create_job(db, owner, "a")
    late = factories.claim_images(db, worker="late")
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    factories.claim_images(db, worker="heir", lease_seconds=5)
    assert db.write(claim_queries.extend_lease, late, lease_seconds=3600) == 0
    assert db.write(claim_queries.extend_lease, [], lease_seconds=30) == 0


def test_what_a_worker_cannot_cope_with_goes_to_the_next_sweep(db, owner):
    """Abandoned images count an attempt, and are retried in smaller batches."""
    factories.create_job(db, owner, "a", "b")
    claims = factories.claim_images(db)
    assert db.write(claim_queries.abandon, claims) == 2
    assert reaper.reap(db, max_attempts=3) == 2
    assert [claim.attempt for claim in factories.claim_images(db)] == [2, 2]
    assert db.write(claim_queries.abandon, claims) == 0


def test_the_images_of_dead_workers_are_requeued_at_once(db, owner):
    """Their leases end, and no others; their attempt counts."""
    factories.create_job(db, owner, "a", "b", "c")
    for worker in ("dead", "other", "also dead"):
        factories.claim_images(db, worker=worker, limit=1, lease_seconds=600)
    assert db.write(expired_leases.end, ["dead", "also dead"]) == 2
    assert db.write(expired_leases.end, ["dead", "also dead"]) == 0
    assert reaper.reap(db, max_attempts=3) == 2
    assert factories.image_states(db) == {"a": ("queued", 1), "b": ("running", 1), "c": ("queued", 1)}


def test_the_rescue_leaves_living_leases_alone(db, owner):
    """Only what has run out is taken back."""
    factories.create_job(db, owner, "a")
    factories.claim_images(db)
    assert reaper.reap(db, max_attempts=3) == 0
    assert factories.image_states(db) == {"a": ("running", 1)}


def test_a_short_lease_ends_by_itself(db, owner):
    """No clock is turned here: by the database's own, the image is anyone's a moment later."""
    factories.create_job(db, owner, "a")
    factories.claim_images(db, lease_seconds=0.1)
    waiting.wait_until(lambda: reaper.reap(db, max_attempts=3) == 1, 60)


def test_the_rescue_gives_up_at_the_cap(db, owner):
    """Three workers lost over one image are enough; it fails with a code, and its job ends."""
    id_ = factories.create_job(db, owner, "a")
    for attempt in (1, 2, 3):
        assert [claim.attempt for claim in factories.claim_images(db)] == [attempt]
        factories.expire_leases(db)
        assert reaper.reap(db, max_attempts=3) == (1 if attempt < 3 else 0)
    row = db.read(lambda c: c.execute(sa.select(factories.RESULTS)).one())
    assert (row.status, row.error_code, row.model_name, row.model_version) == (
        "failed",
        "worker_lost",
        factories.MODEL,
        None,
    )
    assert factories.get_job(db, id_).status == "failed"
    assert factories.claim_images(db) == []


def test_the_rescue_of_many_needs_no_more_than_a_few_sweeps(db, owner):
    """Fifteen hundred images of a lost worker are all found."""
    factories.create_job(db, owner, *(str(n) for n in range(1500)))
    factories.claim_images(db, limit=1500)
    factories.expire_leases(db)
    assert sum(reaper.reap(db, max_attempts=3) for _ in range(3)) == 1500


def test_a_cancelled_image_is_not_finished(db, owner):
    """A worker that lost its lease and comes back after the cancellation writes nothing."""
    id_ = factories.create_job(db, owner, "a")
    claims = factories.claim_images(db)
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    db.write(jobs.cancel, id_, owner)
    assert factories.complete_claims(db, claims) == 0
    assert factories.job_counts(db, id_) == {"cancelled": 1}


def lost(db, owner, *names):
    """A job whose images were claimed once and lost."""
    id_ = factories.create_job(db, owner, *names)
    factories.claim_images(db)
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    return id_


def test_an_image_that_was_lost_counts_its_next_attempt_when_it_is_started(db, owner):
    """An image lost before its attempt began is not to blame: it has as many attempts as before."""
    lost(db, owner, "a")
    for _ in range(5):
        (claim,) = factories.claim_images(db, begin=False)
        assert (claim.was_lost, claim.attempt) == (True, 1)
        factories.expire_leases(db)
        assert reaper.reap(db, max_attempts=3) == 1
    (claim,) = factories.claim_images(db, begin=False)
    (started,) = db.write(claim_queries.begin_attempt, [claim])
    assert (started.was_lost, started.attempt) == (False, 2)
    assert factories.complete_claims(db, [claim]) == 0
    assert factories.complete_claims(db, [started]) == 1


def test_what_was_lost_meanwhile_is_not_started(db, owner):
    """Its lease ended between claim and start: it is another's."""
    lost(db, owner, "a")
    claims = factories.claim_images(db, begin=False)
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    assert db.write(claim_queries.begin_attempt, claims) == []


@pytest.mark.parametrize(("change", "attempts"), [(claim_queries.release, 1), (claim_queries.abandon, 2)])
def test_handing_back_what_was_not_started(db, owner, change, attempts):
    """Released, its attempts are as before; dropped, because it could not be coped with, it counts."""
    lost(db, owner, "a")
    assert db.write(change, factories.claim_images(db, begin=False)) == 1
    reaper.reap(db, max_attempts=3)
    assert factories.image_states(db) == {"a": ("queued", attempts)}


def test_a_claim_of_new_images_only_passes_over_the_lost(db, owner):
    """A worker that holds other images claims no suspects."""
    lost(db, owner, "lost")
    factories.create_job(db, owner, "new")
    assert names(factories.claim_images(db, only_new=True)) == ["new"]
    assert factories.claim_images(db, only_new=True) == []
    assert names(factories.claim_images(db)) == ["lost"]


def test_whether_anything_waits(db, owner):
    """Queued images of that model, and no others."""
    assert not db.read(claim_queries.has_queued, [factories.MODEL])
    factories.create_job(db, owner, "a")
    assert db.read(claim_queries.has_queued, [factories.MODEL])
    assert not db.read(claim_queries.has_queued, ["another"])
    factories.claim_images(db)
    assert not db.read(claim_queries.has_queued, [factories.MODEL])


def test_giving_up_many_images_takes_few_statements(db, owner):
    """Their number is bounded by the jobs, workers and models concerned, not by the images."""
    ids = [factories.create_job(db, owner, *(f"{job}-{n}" for n in range(100))) for job in range(5)]
    for attempt in range(3):
        claims = factories.claim_images(db, worker=f"w{attempt}", limit=500, begin=False)
        while len(claims) < 500:
            claims += factories.claim_images(db, worker=f"w{attempt}", limit=500, begin=False)
        if attempt:
            db.write(claim_queries.begin_attempt, claims)
        factories.expire_leases(db)
        if attempt < 2:
            assert db.write(expired_leases.requeue, max_attempts=3) == (500, 0)
    statements = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert db.write(expired_leases.requeue, max_attempts=3) == (0, 500)
    assert len(statements) < 25, len(statements)
    assert {factories.job_counts(db, id_)["failed"] for id_ in ids} == {100}
