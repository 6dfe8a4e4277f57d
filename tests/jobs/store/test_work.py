import time

import pytest
import sqlalchemy as sa

from jobs import rescue, tables
from jobs.store import jobs, work
from tests.jobs import making

BULK, INTERACTIVE = tables.Priority.BULK, tables.Priority.INTERACTIVE


def names(claims):
    return [claim.name for claim in claims]


def test_images_are_claimed_by_priority_then_age(db, owner):
    """Somebody who waits is served before a folder, and within one priority the oldest first."""
    making.job(db, owner, "bulk 1", "bulk 2", priority=BULK)
    making.job(db, owner, "now 1", "now 2", priority=INTERACTIVE)
    assert names(making.claim(db, limit=2)) == ["now 1", "now 2"]
    assert names(making.claim(db, limit=2)) == ["bulk 1", "bulk 2"]


def test_bulk_comes_first_where_that_is_asked_for(db, owner):
    """So that neither priority starves the other, a folder is served now and then before those who wait."""
    making.job(db, owner, "now 1", "now 2", priority=INTERACTIVE)
    making.job(db, owner, "bulk 1", priority=BULK)
    assert names(making.claim(db, limit=2, bulk_first=True)) == ["bulk 1"]
    assert names(making.claim(db, limit=1, bulk_first=True)) == ["now 1"]
    assert names(making.claim(db, limit=1)) == ["now 2"]


def test_a_claim_takes_only_images_of_its_model(db, owner):
    """A batch never mixes models."""
    making.job(db, owner, "a", model="another")
    making.job(db, owner, "b")
    assert names(making.claim(db)) == ["b"]


def test_what_is_claimed_is_not_claimed_again(db, owner):
    """Two claims share no image, and an empty queue gives an empty claim."""
    making.job(db, owner, *"abcde")
    taken = [making.claim(db, limit=2, worker=worker) for worker in ("w1", "w2", "w1", "w2")]
    assert [names(claims) for claims in taken] == [["a", "b"], ["c", "d"], ["e"], []]


def test_a_claim_says_what_a_worker_needs(db, owner):
    """Id, job, name, digest, attempt and moment; and the image says who holds it."""
    id_ = making.job(db, owner, "a")
    (claim,) = making.claim(db, worker="w7")
    assert (claim.job_id, claim.name, claim.sha256, claim.attempt) == (id_, "a", making.image("a").sha256, 1)
    assert claim.claimed_at.utcoffset().total_seconds() == 0
    row = db.read(lambda c: c.execute(sa.select(making.IMAGES)).one())
    assert (row.worker, row.status) == ("w7", "running")
    assert (row.lease_until - row.claimed_at).total_seconds() == pytest.approx(30, abs=0.1)


def test_leases_are_by_the_clock_of_the_database(db, owner, monkeypatch):
    """A worker whose own clock is an hour off leases neither longer nor shorter."""
    making.job(db, owner, "a")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    making.claim(db, lease_seconds=30)
    monkeypatch.undo()
    now = db.read(lambda c: c.execute(sa.select(work.clock.now())).scalar())
    until = db.read(lambda c: c.execute(sa.select(making.IMAGES.c.lease_until)).scalar())
    assert abs(now.timestamp() - real()) < 5
    assert 25 < (until - now).total_seconds() <= 30


@pytest.mark.parametrize(("attempts", "company"), [(0, 64), (1, 8), (2, 1), (3, 1), (99, 1)])
def test_the_company_shrinks_with_the_attempts(attempts, company):
    """All, an eighth, one: what kills its worker is found, and its neighbours live on."""
    assert work.company(64, attempts) == company
    assert work.company(1, attempts) == 1


def test_images_that_were_lost_are_claimed_in_smaller_company(db, owner):
    """Sixteen together, then two, then one; and never mixed with such as were not."""
    making.job(db, owner, *(f"{n:02}" for n in range(16)))
    assert len(making.claim(db, limit=16)) == 16
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    making.job(db, owner, "fresh")
    assert [claim.attempt for claim in making.claim(db, limit=16)] == [2, 2]
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    assert [claim.attempt for claim in making.claim(db, limit=16)] == [3]
    rest = [making.claim(db, limit=16) for _ in range(9)]
    assert {claim.attempt for claims in rest for claim in claims} == {1, 2, 3}
    assert all(len({claim.attempt for claim in claims}) == 1 for claims in rest)
    assert "fresh" in names(rest[-1])


def test_another_who_is_just_taking_the_head_does_not_hide_the_rest(postgres, postgres_owner):
    """While one worker takes a lost image at the head, a second gets the fresh ones behind it."""
    making.job(postgres, postgres_owner, "lost")
    making.claim(postgres)
    making.let_leases_end(postgres)
    rescue.sweep(postgres, max_attempts=3)
    making.job(postgres, postgres_owner, "fresh 1", "fresh 2")
    with postgres.engine.connect() as first, first.begin():
        assert len(work.claim(first, "w1", making.MODEL, limit=10, lease_seconds=30)) == 1
        assert names(making.claim(postgres, limit=10, worker="w2")) == ["fresh 1", "fresh 2"]


def test_finishing_writes_one_result_for_each_image(db, owner):
    """Label, confidence, scores, model and timings are in the row; the job is done."""
    id_ = making.job(db, owner, "a", "b")
    claims = making.claim(db)
    assert making.finish(db, claims, timings={"forward_ms": 1.5}) == 2
    rows = db.read(lambda c: c.execute(sa.select(making.RESULTS)).all())
    assert len(rows) == 2
    for row in rows:
        assert (row.status, row.label, row.confidence) == ("done", "sushi", 0.9)
        assert (row.scores, row.timings) == ({"sushi": 0.9, "sandwich": 0.1}, {"forward_ms": 1.5})
        assert (row.model, row.model_version, row.model_digest) == (making.MODEL, "1", "0" * 64)
        assert row.cached is False
    assert making.view(db, id_).status == "done"


def test_finishing_again_writes_nothing(db, owner):
    """A commit whose answer was lost may be repeated."""
    id_ = making.job(db, owner, "a")
    claims = making.claim(db)
    assert [making.finish(db, claims), making.finish(db, claims)] == [1, 0]
    assert making.counts(db, id_) == {"done": 1}


def test_finishing_nothing_is_fine(db):
    """An empty batch is no error."""
    assert db.write(work.finish, [], making.MAKER) == 0
    assert db.write(work.release, []) == 0


def test_a_zombie_writes_nothing(db, owner):
    """Whose lease was lost, and whose image another has, neither finishes nor releases it."""
    id_ = making.job(db, owner, "a")
    zombie = making.claim(db, worker="zombie")
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    heir = making.claim(db, worker="heir")
    assert making.finish(db, zombie, label="wrong") == 0
    assert db.write(work.release, zombie) == 0
    assert making.finish(db, heir) == 1
    assert making.finish(db, zombie, label="wrong") == 0
    labels = db.read(lambda c: c.execute(sa.select(making.RESULTS.c.label)).scalars().all())
    assert (labels, making.counts(db, id_)) == (["sushi"], {"done": 1})


def test_a_zombie_whose_image_waits_again_writes_nothing(db, owner):
    """Between rescue and next claim the image is nobody's."""
    making.job(db, owner, "a")
    zombie = making.claim(db)
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    assert making.finish(db, zombie) == 0
    assert making.images(db) == {"a": ("queued", 1)}


def test_a_worker_that_handed_back_holds_nothing_of_its_heirs(db, owner):
    """Handing back gives the attempt back, so the next has the same number: the fence must hold all the same."""
    making.job(db, owner, "a")
    first = making.claim(db, worker="w1")
    assert db.write(work.release, first) == 1
    second = making.claim(db, worker="w2")
    assert db.write(work.release, first) == 0  # repeated, because the answer to the first was lost
    assert making.finish(db, first, label="wrong") == 0
    assert making.finish(db, second) == 1


def test_a_late_worker_may_still_finish_if_nobody_was_quicker(db, owner):
    """A lease that ran out a moment ago costs nothing, if the image was not taken meanwhile."""
    making.job(db, owner, "a")
    claims = making.claim(db)
    making.let_leases_end(db)
    assert making.finish(db, claims) == 1


def test_a_partly_lost_batch_keeps_what_is_its_own(db, owner):
    """Of four images two were lost: two results, and the counters say two."""
    id_ = making.job(db, owner, *"abcd")
    claims = making.claim(db)
    lost = sa.update(making.IMAGES).where(making.IMAGES.c.name.in_(["b", "c"]))
    db.write(lambda c: c.execute(lost.values(attempt=2, worker="heir")))
    assert making.finish(db, claims) == 2
    assert making.results(db) == ["a", "d"]
    assert making.counts(db, id_) == {"done": 2, "running": 2}


def test_a_batch_of_several_jobs_moves_the_counters_of_each(db, owner):
    """A batch takes what waits, whosoever it is."""
    ids = [making.job(db, owner, *"abc"[:n]) for n in (1, 2, 3)]
    making.finish(db, making.claim(db))
    assert [making.counts(db, id_) for id_ in ids] == [{"done": 1}, {"done": 2}, {"done": 3}]
    assert {making.view(db, id_).status for id_ in ids} == {"done"}


def test_releasing_gives_the_attempt_back(db, owner):
    """What was handed back is as if it had never been taken."""
    id_ = making.job(db, owner, "a", "b")
    claims = making.claim(db)
    assert db.write(work.release, claims[:1]) == 1
    assert making.images(db) == {"a": ("queued", 0), "b": ("running", 1)}
    assert making.counts(db, id_) == {"queued": 1, "running": 1}
    assert names(making.claim(db)) == ["a"]


def test_released_images_are_nobodys(db, owner):
    """The worker that handed back does not prolong them."""
    making.job(db, owner, "a")
    claims = making.claim(db)
    db.write(work.release, claims)
    assert db.write(work.renew, claims, lease_seconds=30) == 0


def test_renewing_prolongs_what_one_holds_and_nothing_else(db, owner):
    """A heartbeat keeps the worker's own images from the rescue."""
    making.job(db, owner, *"abc")
    mine = making.claim(db, limit=2, worker="w1")
    making.claim(db, limit=1, worker="w2")
    making.let_leases_end(db)
    assert db.write(work.renew, mine, lease_seconds=30) == 2
    assert rescue.sweep(db, max_attempts=3) == 1
    assert making.images(db) == {"a": ("running", 1), "b": ("running", 1), "c": ("queued", 1)}


def test_renewing_does_not_take_back_what_was_lost(db, owner):
    """A heartbeat that comes too late prolongs nothing of another's."""
    making.job(db, owner, "a")
    late = making.claim(db, worker="late")
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    making.claim(db, worker="heir", lease_seconds=5)
    assert db.write(work.renew, late, lease_seconds=3600) == 0
    assert db.write(work.renew, [], lease_seconds=30) == 0


def test_what_a_worker_cannot_cope_with_goes_to_the_next_sweep(db, owner):
    """Dropped images count an attempt, and are tried again in smaller company."""
    making.job(db, owner, "a", "b")
    claims = making.claim(db)
    assert db.write(work.drop, claims) == 2
    assert rescue.sweep(db, max_attempts=3) == 2
    assert [claim.attempt for claim in making.claim(db)] == [2, 2]
    assert db.write(work.drop, claims) == 0


def test_the_rescue_leaves_living_leases_alone(db, owner):
    """Only what has run out is taken back."""
    making.job(db, owner, "a")
    making.claim(db)
    assert rescue.sweep(db, max_attempts=3) == 0
    assert making.images(db) == {"a": ("running", 1)}


def test_a_short_lease_ends_by_itself(db, owner):
    """No clock is turned here: a fifth of a second later the image is anyone's."""
    making.job(db, owner, "a")
    making.claim(db, lease_seconds=0.2)
    assert rescue.sweep(db, max_attempts=3) == 0
    time.sleep(0.25)
    assert rescue.sweep(db, max_attempts=3) == 1


def test_the_rescue_gives_up_at_the_cap(db, owner):
    """Three workers lost over one image are enough; it fails with a code, and its job ends."""
    id_ = making.job(db, owner, "a")
    for attempt in (1, 2, 3):
        assert [claim.attempt for claim in making.claim(db)] == [attempt]
        making.let_leases_end(db)
        assert rescue.sweep(db, max_attempts=3) == (1 if attempt < 3 else 0)
    row = db.read(lambda c: c.execute(sa.select(making.RESULTS)).one())
    assert (row.status, row.error_code, row.model, row.model_version) == ("failed", "worker_lost", making.MODEL, None)
    assert making.view(db, id_).status == "failed"
    assert making.claim(db) == []


def test_the_rescue_of_many_needs_no_more_than_a_few_sweeps(db, owner):
    """Fifteen hundred images of a lost worker are all found."""
    making.job(db, owner, *(str(n) for n in range(1500)))
    making.claim(db, limit=1500)
    making.let_leases_end(db)
    assert sum(rescue.sweep(db, max_attempts=3) for _ in range(3)) == 1500


def test_a_cancelled_image_is_not_finished(db, owner):
    """Who claims, loses the lease and comes back after the cancelling, writes nothing."""
    id_ = making.job(db, owner, "a")
    claims = making.claim(db)
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    db.write(jobs.cancel, id_, owner)
    assert making.finish(db, claims) == 0
    assert making.counts(db, id_) == {"cancelled": 1}


def lost(db, owner, *names):
    """A job whose images were claimed once and lost."""
    id_ = making.job(db, owner, *names)
    making.claim(db)
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    return id_


def test_an_image_that_was_lost_counts_its_next_attempt_when_it_is_started(db, owner):
    """Who is killed before its turn has not died of it: lost again unstarted, it has as many attempts as before."""
    lost(db, owner, "a")
    for _ in range(5):
        (claim,) = making.claim(db, start=False)
        assert (claim.again, claim.attempt) == (True, 1)
        making.let_leases_end(db)
        assert rescue.sweep(db, max_attempts=3) == 1
    (claim,) = making.claim(db, start=False)
    (started,) = db.write(work.start, [claim])
    assert (started.again, started.attempt) == (False, 2)
    assert making.finish(db, [claim]) == 0
    assert making.finish(db, [started]) == 1


def test_what_was_lost_meanwhile_is_not_started(db, owner):
    """Its lease ended between claim and start: it is another's."""
    lost(db, owner, "a")
    claims = making.claim(db, start=False)
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    assert db.write(work.start, claims) == []


@pytest.mark.parametrize(("change", "attempts"), [(work.release, 1), (work.drop, 2)])
def test_handing_back_what_was_not_started(db, owner, change, attempts):
    """Released, its attempts are as before; dropped, because it could not be coped with, it counts."""
    lost(db, owner, "a")
    assert db.write(change, making.claim(db, start=False)) == 1
    rescue.sweep(db, max_attempts=3)
    assert making.images(db) == {"a": ("queued", attempts)}


def test_a_claim_of_new_images_only_passes_over_the_lost(db, owner):
    """Whoever has others in hand takes no suspects."""
    lost(db, owner, "lost")
    making.job(db, owner, "new")
    assert names(making.claim(db, only_new=True)) == ["new"]
    assert making.claim(db, only_new=True) == []
    assert names(making.claim(db)) == ["lost"]


def test_whether_anything_waits(db, owner):
    """Queued images of that model, and no others."""
    assert not db.read(work.waits, [making.MODEL])
    making.job(db, owner, "a")
    assert db.read(work.waits, [making.MODEL])
    assert not db.read(work.waits, ["another"])
    making.claim(db)
    assert not db.read(work.waits, [making.MODEL])
