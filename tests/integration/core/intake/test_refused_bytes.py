"""Submissions that are rejected: no bytes are kept if it can be known before, else the key has paid for them."""

import hashlib
import os
from concurrent import futures

import pytest

from core import errors, settings
from core.db import clock
from core.db.queries import installation, jobs, quotas
from core.intake import service
from core.maintenance import orphans
from tests.support import factories

KEY_QUOTAS = quotas.Quotas(images_per_minute=1000, bytes_per_minute=100_000)


class SilentWakeup:
    """A wake-up sender that sends nothing."""

    def send(self):
        """Send nothing."""


@pytest.fixture
def intake_service(db, blob_store):
    """A submission service for at most three open jobs of a key."""
    return service.SubmissionService(settings.Settings(key_open_jobs=3), db, blob_store, SilentWakeup())


def upload(number, name="a"):
    """Return one image."""
    return service.Upload(name, factories.make_image(number))


def remaining_bytes(db, owner):
    """Return how many bytes a key may still submit."""
    return db.read(quotas.get_usage, owner, KEY_QUOTAS).remaining.bytes


def test_a_used_idempotency_key_is_rejected_before_bytes_are_stored(intake_service, blob_store, db, owner):
    """Row 3: another submission under it is not kept and costs nothing, and a repeat is the first job."""
    job = factories.new_job(owner, idempotency_key="k", key_quotas=KEY_QUOTAS)
    first = factories.submit_job(intake_service, job, [upload(1)])
    left = remaining_bytes(db, owner)
    for number in range(2, 6):
        with pytest.raises(errors.IdempotencyMismatch):
            factories.submit_job(intake_service, job, [upload(number)])
    assert factories.count_blobs(blob_store) == 1
    assert factories.submit_job(intake_service, job, [upload(1)]).id == first.id
    assert remaining_bytes(db, owner) == pytest.approx(left, abs=3000)


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed job", "name taken"])
def test_images_that_are_not_added_are_not_stored(intake_service, blob_store, db, owner, is_sealed):
    """Row 3: to a sealed job, or under names that the job has."""
    job_id = factories.submit_job(intake_service, factories.new_job(owner, sealed=False), [upload(1)]).id
    if is_sealed:
        db.write(jobs.seal, job_id, owner)
        with pytest.raises(errors.JobSealed):
            intake_service.add_images(job_id, owner, [upload(2, "new")], key_quotas=KEY_QUOTAS)
    intake_service.add_images(job_id, owner, [upload(3)], key_quotas=KEY_QUOTAS)
    assert factories.count_blobs(blob_store) == 1
    assert remaining_bytes(db, owner) == KEY_QUOTAS.bytes_per_minute


def test_lost_races_are_paid_for(intake_service, blob_store, db, owner):
    """Row 3: of twenty submissions at once under one key one wins; what the others have stored, they were charged."""
    job = factories.new_job(owner, idempotency_key="k", key_quotas=quotas.Quotas(bytes_per_minute=3000))
    size = len(factories.make_image(1))

    def submit(number):
        try:
            return factories.submit_job(intake_service, job, [upload(number)])
        except (errors.IdempotencyMismatch, errors.RateLimited) as error:
            return error.code

    with futures.ThreadPoolExecutor(20) as pool:
        results = list(pool.map(submit, range(20)))
    assert sum(not isinstance(result, str) for result in results) == 1
    # A bucket may be overdrawn by one submission, and refills meanwhile.
    assert factories.count_blobs(blob_store) <= 3000 / size + 2


def test_what_the_quota_rejects_is_not_stored(intake_service, blob_store, owner):
    """Whether the submission is checked by the admission control or only when it is charged."""
    key_quotas = quotas.Quotas(bytes_per_minute=1)
    factories.submit_job(intake_service, factories.new_job(owner, key_quotas=key_quotas), [upload(1)])
    for number in range(2, 6):
        with pytest.raises(errors.RateLimited):
            factories.submit_job(intake_service, factories.new_job(owner, key_quotas=key_quotas), [upload(number)])
    assert factories.count_blobs(blob_store) == 1


def test_metadata_counts_as_bytes(intake_service, owner):
    """Row 3: also of an open job without images."""
    key_quotas = quotas.Quotas(bytes_per_minute=20_000)
    job = factories.new_job(owner, sealed=False, metadata={"a": "ä" * 8_000}, key_quotas=key_quotas)
    factories.submit_job(intake_service, job, [])
    with pytest.raises(errors.RateLimited):
        factories.submit_job(intake_service, job, [])


def test_open_jobs_of_a_key_are_limited(intake_service, db, owner):
    """Row 3: exactly, also at once; a sealed one frees a place, and other keys have their own."""

    def create(_):
        try:
            return factories.submit_job(intake_service, factories.new_job(owner, sealed=False), []).id
        except errors.QuotaExceeded:
            return None

    with futures.ThreadPoolExecutor(8) as pool:
        created = [id_ for id_ in pool.map(create, range(8)) if id_]
    assert len(created) == 3
    other = factories.create_key(db, "another")
    factories.submit_job(intake_service, factories.new_job(other, sealed=False), [])
    db.write(jobs.seal, created[0], owner)
    assert create(0) is not None
    assert create(0) is None


def test_abandoned_open_jobs_are_sealed(db, owner):
    """Row 3: with their images, which get their results; not those that grow, or are being filled by an import."""
    empty, filled, growing = (factories.create_job(db, owner, *names, sealed=False) for names in ([], ["a"], ["b"]))
    week_ago = {"created_at": clock.now(-8 * 86_400)}
    db.write(lambda conn: conn.execute(factories.JOBS.update().values(week_ago)))
    db.write(jobs.add_images, growing, owner, [factories.new_image("c")])
    assert set(db.write(jobs.seal_abandoned, days=7)) == {empty, filled}
    assert db.write(jobs.seal_abandoned, days=7) == []
    states = {id_: db.read(jobs.get, id_, owner) for id_ in (empty, filled, growing)}
    assert states[empty].finished_at is not None
    assert (states[filled].sealed_at is not None, states[filled].finished_at) == (True, None)
    assert states[growing].sealed_at is None


def test_the_sweep_removes_old_blobs_without_rows_only(intake_service, blob_store, db, owner):
    """Row 3: bytes older than an hour that neither an image nor a model refers to."""
    factories.submit_job(intake_service, factories.new_job(owner), [upload(1)])
    kept = next(blob_store.root.glob("??/*"))
    orphan, recent = (factories.make_image(number) for number in (2, 3))
    digests = [hashlib.sha256(data).hexdigest() for data in (orphan, recent)]
    blob_store.put(zip(digests, (orphan, recent), strict=True))
    for path in (kept, blob_store.path(digests[0])):
        os.utime(path, (0, 0))
    assert orphans.sweep(db, blob_store) == 1
    assert kept.exists()
    assert [blob_store.path(digest).exists() for digest in digests] == [False, True]


@pytest.mark.parametrize("blobs_per_step", [1, 1000])
def test_the_sweep_goes_on_past_a_blob_that_cannot_be_removed(blob_store, db, monkeypatch, blobs_per_step):
    """All that come after it would else stay for ever; the error is raised at the end."""
    monkeypatch.setattr(orphans, "BLOBS_PER_STEP", blobs_per_step)
    digests = [f"{number:064x}" for number in range(3)]
    blob_store.put([(digest, b"x") for digest in digests])
    blob_store.path(digests[1]).unlink()
    blob_store.path(digests[1]).mkdir()
    for digest in digests:
        os.utime(blob_store.path(digest), (0, 0))
    with pytest.raises(errors.BlobsUnavailable, match="cannot be removed"):
        orphans.sweep(db, blob_store)
    assert [digest for digest in digests if blob_store.path(digest).is_file()] == []


def test_the_sweep_leaves_the_store_of_another_database_alone(blob_store, db):
    """A server that was started with the wrong database removes nothing."""
    assert blob_store.mark_owner("another database")
    blob_store.put([("0" * 64, b"theirs")])
    os.utime(blob_store.path("0" * 64), (0, 0))
    assert orphans.sweep(db, blob_store) == 0
    assert blob_store.path("0" * 64).exists()
    assert db.write(installation.get_or_create_id) != "another database"
