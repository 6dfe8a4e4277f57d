import time
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from core import errors
from core.db.queries import deletions, invariants, jobs, quotas, retention, retries
from core.maintenance import reaper
from tests.support import factories

Q = quotas.Quotas
IMAGES = factories.IMAGES


@pytest.fixture
def failed_job(db, owner, monkeypatch):
    """A job of five images, of which `b` has a label; a transaction copies one of the others at a time."""
    monkeypatch.setattr(retries, "COPIED_PER_STEP", 1)
    monkeypatch.setattr(reaper, "MAX_ENDING_SECONDS", 60.0)
    id_ = factories.create_job(db, owner, *"ecabd")
    claims = factories.claim_images(db)
    factories.complete_claims(db, [claim for claim in claims if claim.name == "b"])
    lost = [claim for claim in claims if claim.name != "b"]
    factories.complete_claims(
        db, lost, label=None, confidence=None, scores=None, error_code="timed_out", error_detail="Too slow."
    )
    return id_


def list_names(db, job_id) -> Sequence[str]:
    """Return the names of the images of a job, in the order of their ids."""
    query = sa.select(IMAGES.c.name).where(IMAGES.c.job_id == job_id).order_by(IMAGES.c.id)
    return db.read(lambda conn: conn.execute(query).scalars().all())


def copy_one_step(db, retry_id):
    """Copy as many images as one transaction does."""
    remaining = db.read(retries.next_images, retry_id, limit=retries.COPIED_PER_STEP)
    ids = [image.id for image in remaining.images]
    return db.write(retries.copy_step, retry_id, after=remaining.after, image_ids=ids, is_last=False)


def test_a_small_job_is_retried_at_once(db, owner, failed_job, monkeypatch):
    """In one transaction, and in the order in which the images were submitted."""
    monkeypatch.setattr(retries, "COPIED_PER_STEP", 4)
    row = factories.get_job(db, db.write(retries.create_retry, failed_job, owner))
    assert (row.total, row.bytes, row.retry_of) == (4, 4 * 1234, failed_job)
    assert row.sealed_at is not None
    assert list_names(db, row.id) == [*"ecad"]
    assert db.read(retries.list_unfinished) == []


def test_a_large_job_is_retried_step_by_step(db, owner, failed_job, monkeypatch):
    """Its workers begin at once; the reaper copies what a request has left, and seals the new job."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    assert factories.job_counts(db, retry_id) == {"queued": 1}
    assert factories.complete_claims(db, factories.claim_images(db)) == 1
    assert factories.get_job(db, retry_id).finished_at is None
    assert db.write(retries.create_retry, failed_job, owner) == retry_id
    assert list(db.read(retries.list_unfinished)) == [retry_id]
    monkeypatch.setattr(reaper, "READ_IMAGES", 2)
    reaper.reap(db, max_attempts=3)
    assert factories.job_counts(db, retry_id) == {"queued": 3, "done": 1}
    assert list_names(db, retry_id) == [*"acde"]
    assert (factories.get_job(db, retry_id).bytes, db.read(invariants.find_defects)) == (4 * 1234, {})
    factories.complete_claims(db, factories.claim_images(db))
    assert (factories.get_job(db, retry_id).status, db.read(invariants.find_defects)) == ("done", {})


def test_a_retry_ends_though_its_images_have_ended_before_the_last_step(db, owner, failed_job):
    """It is finished when it is sealed."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    while factories.complete_claims(db, factories.claim_images(db)):
        copy_one_step(db, retry_id)
    assert factories.get_job(db, retry_id).finished_at is None
    reaper.reap(db, max_attempts=3)
    assert (factories.get_job(db, retry_id).status, db.read(invariants.find_defects)) == ("done", {})


def test_no_image_is_added_to_a_retry_that_is_being_copied_and_no_caller_seals_it(db, owner, failed_job):
    """It is not an open job of its owner, nor counted as one, nor abandoned."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    with pytest.raises(errors.JobSealed):
        db.write(jobs.add_images, retry_id, owner, [factories.new_image("z")])
    db.write(jobs.seal, retry_id, owner)
    assert db.write(jobs.seal_abandoned, days=0.0) == []
    db.write(quotas.check_open_jobs, owner, 1)
    factories.create_job(db, owner, sealed=False, max_open_jobs=1)
    reaper.copy_retry(db, retry_id, deadline=time.monotonic() + 60)
    assert factories.job_counts(db, retry_id) == {"queued": 4}


def test_the_quotas_are_those_of_all_images_of_a_large_retry(db, owner, failed_job):
    """Not those of the first step."""
    with pytest.raises(errors.TooManyImages):
        db.write(retries.create_retry, failed_job, owner, Q(open_images=3))
    db.write(retries.create_retry, failed_job, owner, Q(images_per_minute=4))
    with pytest.raises(errors.RateLimited):
        db.write(quotas.charge, owner, Q(images_per_minute=4), quotas.Load(1, 1))


@pytest.mark.parametrize(
    "action", [jobs.cancel, lambda conn, id_, owner: deletions.delete_job(conn, id_, owner, owner)]
)
def test_nothing_is_copied_into_a_retry_that_was_cancelled_or_deleted(db, owner, failed_job, action):
    """It ends with what it had."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    db.write(action, retry_id, owner)
    reaper.reap(db, max_attempts=3)
    assert list_names(db, retry_id) == ["a"]
    assert db.read(lambda c: c.execute(sa.select(factories.JOBS.c.finished_at)).scalars().all()).count(None) == 0


def test_a_retry_ends_although_the_first_job_is_deleted(db, owner, failed_job):
    """Images of a deleted job are not copied."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    db.write(deletions.delete_job, failed_job, owner, owner)
    reaper.reap(db, max_attempts=3)
    while db.write(retention.deletion_step).jobs:
        pass
    factories.complete_claims(db, factories.claim_images(db))
    assert (list_names(db, retry_id), factories.get_job(db, retry_id).status) == (["a"], "done")
    assert db.read(invariants.find_defects) == {}


def test_a_deleted_image_is_not_copied_again(db, owner, failed_job):
    """The last name of a retry says where its copying goes on."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    (image_id,) = db.read(lambda c: c.execute(sa.select(IMAGES.c.id).where(IMAGES.c.job_id == retry_id)).scalars())
    db.write(deletions.delete_image, image_id, owner, owner)
    reaper.reap(db, max_attempts=3)
    assert (list_names(db, retry_id), db.read(invariants.find_defects)) == ([*"cde"], {})


def test_two_processes_copy_no_image_twice(db, owner, failed_job):
    """The one whose position is an old one does nothing."""
    retry_id = db.write(retries.create_retry, failed_job, owner)
    after, images = db.read(retries.next_images, retry_id, limit=9)
    assert copy_one_step(db, retry_id)
    ids = [image.id for image in images]
    assert not db.write(retries.copy_step, retry_id, after=after, image_ids=ids, is_last=True)
    reaper.copy_retry(db, retry_id, deadline=time.monotonic() + 60)
    assert list_names(db, retry_id) == [*"acde"]
    assert db.read(retries.next_images, retry_id, limit=9) is None
