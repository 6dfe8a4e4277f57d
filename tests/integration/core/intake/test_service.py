import dataclasses
import hashlib
import os
import threading
import time
from concurrent import futures

import pytest
import sqlalchemy as sa

from core import errors, settings
from core.db import new_image
from core.db.queries import deletions, jobs, known_blobs
from core.intake import job_writer, service
from core.maintenance import retention
from sortbelt.files import file_names
from tests.support import factories


class CountingWakeup:
    """A wake-up sender that counts its calls."""

    def __init__(self, before):
        self.count = 0
        self.before = before
        self.seen = []

    def send(self):
        """Count, and look at what is true at that moment."""
        self.count += 1
        self.seen.append(self.before())


class NoStore:
    """A store of blobs that takes anything."""

    def put(self, blobs):
        """Forget them."""
        list(blobs)


class FullDisk:
    """A store of blobs that is full."""

    def put(self, blobs):
        """Take some, then no more."""
        list(blobs)
        raise errors.BlobsUnavailable("An image cannot be stored: No space left on device.")


@pytest.fixture
def intake_service(db, blob_store):
    """A submission service on a real database and folder, with a counting wake-up sender."""
    wakeup = CountingWakeup(lambda: len(factories.image_states(db)))
    return service.SubmissionService(settings.Settings(), db, blob_store, wakeup)


def uploads(*names):
    return [service.Upload(name, factories.make_image(number)) for number, name in enumerate(names)]


def test_blobs_rows_wakeup_in_this_order(intake_service, db, owner):
    """When the wake-up is sent, the rows are committed, and every row's bytes are in the store."""
    id_ = factories.submit_job(intake_service, factories.new_job(owner), uploads("a", "b")).id
    assert (intake_service.wakeup.count, intake_service.wakeup.seen) == (1, [2])
    for claim in factories.claim_images(db):
        assert claim.job_id == id_
        assert hashlib.sha256(intake_service.blob_store.get(claim.sha256)).hexdigest() == claim.sha256


def test_nothing_is_taken_in_if_the_blobs_are_full(intake_service, db, owner):
    """No row, no wake-up."""
    full = dataclasses.replace(intake_service, blob_store=FullDisk())
    with pytest.raises(errors.BlobsUnavailable):
        factories.submit_job(full, factories.new_job(owner), uploads("a"))
    job = factories.create_job(db, owner, sealed=False)
    with pytest.raises(errors.BlobsUnavailable):
        full.add_images(job, owner, uploads("a"))
    assert factories.image_states(db) == {}
    assert intake_service.wakeup.count == 0


def test_rejected_images_are_not_stored(intake_service, db, owner, tmp_path):
    """Only images that will be classified are stored."""
    factories.submit_job(
        intake_service, factories.new_job(owner), [service.Upload("a", b"text"), service.Upload("b", b"")]
    )
    assert not (tmp_path / "blobs").exists()
    assert factories.result_names(db) == ["a", "b"]


def test_a_stranger_fills_no_disk_through_another_s_job(intake_service, db, owner, tmp_path):
    """The job is looked for before anything is written."""
    with pytest.raises(errors.JobNotFound):
        intake_service.add_images(
            factories.create_job(db, owner, sealed=False), "00000000-0000-7000-8000-000000000000", uploads("a")
        )
    assert not (tmp_path / "blobs").exists()


def test_late_images_of_a_sealed_job_are_rejected(intake_service, owner):
    """Through the whole intake."""
    id_ = factories.submit_job(intake_service, factories.new_job(owner), uploads("a")).id
    intake_service.add_images(id_, owner, uploads("a"))
    with pytest.raises(errors.JobSealed):
        intake_service.add_images(id_, owner, uploads("a", "b"))


def test_a_repeat_under_one_key_must_match_the_whole_submission(intake_service, owner):
    """The same order is the same job; another order, name, byte or sequence is a mismatch."""
    order = factories.new_job(owner, idempotency_key="k", metadata={"a": 1, "b": 2})
    first = factories.submit_job(intake_service, order, uploads("a", "b")).id
    again = dataclasses.replace(order, metadata={"b": 2, "a": 1})
    assert factories.submit_job(intake_service, again, uploads("a", "b")).id == first
    others = [
        (dataclasses.replace(order, metadata={"a": 1}), uploads("a", "b")),
        (dataclasses.replace(order, sealed=False), uploads("a", "b")),
        (order, uploads("a")),
        (order, uploads("b", "a")),
        (order, [service.Upload("a", factories.make_image(9)), *uploads("", "b")[1:]]),
    ]
    for other, uploaded in others:
        with pytest.raises(errors.IdempotencyMismatch):
            factories.submit_job(intake_service, other, uploaded)


def test_two_names_that_become_one_are_two_of_a_kind(intake_service, db, owner):
    """Cleaned names must still be unique."""
    with pytest.raises(errors.DuplicateName):
        factories.submit_job(intake_service, factories.new_job(owner), uploads("a\x01", "a\\x01"))
    assert factories.image_states(db) == {}


def test_an_unknown_model_is_refused_before_anything_is_stored(intake_service, owner, tmp_path):
    """With the name of the one there is."""
    with pytest.raises(errors.UnknownModel, match=factories.MODEL):
        factories.submit_job(intake_service, factories.new_job(owner, model="other"), uploads("a"))
    assert not (tmp_path / "blobs").exists()


def test_too_many_images_are_rejected_before_any_is_checked(intake_service, owner):
    """The limit of the settings, and where to send the rest."""
    few = dataclasses.replace(intake_service, settings=settings.Settings(max_images_per_request=2))
    factories.submit_job(few, factories.new_job(owner), uploads("a", "b"))
    with pytest.raises(errors.TooManyImages, match="images_url"):
        factories.submit_job(few, factories.new_job(owner), uploads("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "kept"), [("a\0b", "a\\x00b"), ("\x1b[1m", "\\x1b[1m"), ("\ud800", "\\ud800"), ("é", "é")]
)
def test_names_are_cleaned_of_what_cannot_be_shown(intake_service, db, owner, name, kept):
    """Control characters and half characters are replaced, all else stays."""
    factories.submit_job(intake_service, factories.new_job(owner), uploads(name))
    assert set(factories.image_states(db)) == {kept}


def test_the_same_bytes_twice_are_two_images_and_one_blob(intake_service, db, owner, tmp_path):
    """Content-addressed."""
    same = [service.Upload(name, factories.make_image()) for name in "ab"]
    factories.submit_job(intake_service, factories.new_job(owner), same)
    assert len(factories.image_states(db)) == 2
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_few_transactions(intake_service, db, owner):
    """One for a job; two for images that are added to one: the names it has, then the rows."""
    begun = []
    sa.event.listen(db.engine, "begin", begun.append)
    quiet = dataclasses.replace(intake_service, wakeup=CountingWakeup(lambda: None))
    factories.submit_job(quiet, factories.new_job(owner, model=quiet.settings.model), uploads("a"))
    assert len(begun) == 1
    open_job = factories.submit_job(
        quiet, factories.new_job(owner, model=quiet.settings.model, sealed=False), uploads("b")
    )
    begun.clear()
    assert quiet.add_images(open_job.id, owner, uploads("c", "d")).total == 3
    assert len(begun) == 2


def test_of_orders_that_come_at_once_a_bad_one_fails_alone(intake_service, db, owner, monkeypatch):
    """While one is written three others come: the invalid one gets its error, and the rest are accepted."""
    factories.submit_job(intake_service, factories.new_job(owner, idempotency_key="k"), uploads("a"))
    under_way, go = threading.Event(), threading.Event()
    real, sizes = jobs.insert_jobs, []
    # As if the first job came in just now.
    monkeypatch.setattr(job_writer.JobWriter, "_find_repeated", lambda _, submissions: [None] * len(submissions))

    def take(c, orders):
        sizes.append(len(orders))
        if len(sizes) == 1:
            under_way.set()
            assert go.wait(10)
        return real(c, orders)

    monkeypatch.setattr(jobs, "insert_jobs", take)
    with futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(factories.submit_job, intake_service, factories.new_job(owner), uploads("b"))
        assert under_way.wait(10)
        bad = pool.submit(
            factories.submit_job, intake_service, factories.new_job(owner, idempotency_key="k"), uploads("another")
        )
        good = [
            pool.submit(factories.submit_job, intake_service, factories.new_job(owner), uploads(name)) for name in "cd"
        ]
        while len(intake_service._job_writer._thread._pending) < 3:
            time.sleep(0.001)
        go.set()
        assert [done.result(10).total for done in (first, *good)] == [1, 1, 1]
        with pytest.raises(errors.IdempotencyMismatch):
            bad.result(10)
    assert sizes == [1, 3, 1, 1, 1]
    assert set(factories.image_states(db)) == {"a", "b", "c", "d"}


def remove_after(monkeypatch, module, name, remove):
    """Remove a job and its blobs after the first call of a function: a submission has read what it refers to."""
    read, pending = getattr(module, name), [remove]

    def read_then_remove(*args, **kwargs):
        outcome = read(*args, **kwargs)
        if pending:
            pending.pop()()
        return outcome

    monkeypatch.setattr(module, name, read_then_remove)


@pytest.fixture
def removable_job(intake_service, db, owner):
    """A job of the images `a` and `b` whose bytes were stored long ago, and the function that removes it with them."""
    job_id = factories.submit_job(intake_service, factories.new_job(owner), uploads("a", "b")).id
    factories.complete_claims(db, factories.claim_images(db))
    for path in intake_service.blob_store.root.glob("??/*"):
        os.utime(path, (0, 0))

    def remove():
        db.write(deletions.delete_job, job_id, owner, owner)
        retention.run_deletions(db, intake_service.blob_store, job_id, deadline=time.monotonic() + 60)

    return job_id, remove


def references(*names):
    return [
        service.BlobReference(name, hashlib.sha256(factories.make_image(number)).hexdigest())
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("sealed", [True, False])
def test_a_reference_to_bytes_that_are_removed_meanwhile_is_rejected(
    intake_service, db, owner, removable_job, monkeypatch, sealed
):
    """Accepted, its image would fail for good: the bytes are gone. An idempotency key does not change that."""
    remove_after(monkeypatch, known_blobs, "find_known", removable_job[1])
    order = factories.new_job(owner, sealed=sealed, idempotency_key="k")
    with pytest.raises(errors.UnknownBlob, match="'new a' and of 1 more") as caught:
        factories.submit_job(intake_service, order, references("new a", "new b"))
    assert [fault[:2] for fault in caught.value.faults] == [
        (f"#/images/{index}/sha256", "unknown_blob") for index in (0, 1)
    ]
    assert factories.image_states(db) == {}
    assert factories.submit_job(intake_service, order, uploads("new a", "new b")).total == 2


def test_an_added_reference_to_bytes_that_are_removed_meanwhile_is_rejected(
    intake_service, db, owner, removable_job, monkeypatch
):
    """With the position that it has in the request, of which the job has one image already."""
    job_id = factories.submit_job(
        intake_service, factories.new_job(owner, sealed=False), uploads("", "", "", "c")[3:]
    ).id
    remove_after(monkeypatch, known_blobs, "find_known", removable_job[1])
    added = [service.Upload("c", factories.make_image(3)), *references("new a")]
    with pytest.raises(errors.UnknownBlob, match="'new a'") as caught:
        intake_service.add_images(job_id, owner, added)
    assert [fault.pointer for fault in caught.value.faults] == ["#/images/1/sha256"]
    assert list(factories.image_states(db)) == ["c"]


def test_a_resubmission_of_an_image_that_is_removed_meanwhile_is_rejected(intake_service, db, owner, removable_job):
    """As the next one will be, which does not find the image."""
    query = sa.select(factories.IMAGES, sa.null().label("url")).order_by(factories.IMAGES.c.name)
    rows = db.read(lambda c: c.execute(query).all())
    removable_job[1]()
    images = [new_image.NewImage.copy_of(row, row.name) for row in rows]
    with pytest.raises(errors.ImageGone, match=r"'a' \(and 1 others\)"):
        intake_service.create_from_stored_images(factories.new_job(owner, fresh=True), images)
    assert factories.image_states(db) == {}


def test_bytes_stay_while_another_image_has_them(intake_service, db, owner, removable_job, monkeypatch):
    """Of the newest image the row is deleted, and an older one refers to the bytes still."""
    again = factories.submit_job(intake_service, factories.new_job(owner), references("a again")).id
    db.write(
        lambda c: c.execute(
            sa.update(factories.JOBS).where(factories.JOBS.c.id == again).values(finished_at=sa.text("'2020-01-01'"))
        )
    )
    remove_after(
        monkeypatch,
        known_blobs,
        "find_known",
        lambda: retention.run_purge(db, intake_service.blob_store, days=30),
    )
    id_ = factories.submit_job(intake_service, factories.new_job(owner, fresh=True), references("new a")).id
    (claim,) = factories.claim_images(db)
    assert claim.job_id == id_
    assert intake_service.blob_store.get(claim.sha256)


def test_a_removal_waits_for_the_submission_that_refers_to_its_bytes(
    intake_service, db, owner, removable_job, monkeypatch
):
    """The reference was found in the transaction of the new job: the bytes stay when the old job is removed."""
    threads = []

    def remove_meanwhile():
        threads.append(threading.Thread(target=removable_job[1]))
        threads[0].start()
        threads[0].join(0.5)  # it cannot end before this transaction does

    remove_after(monkeypatch, known_blobs, "lock_stored", remove_meanwhile)
    id_ = factories.submit_job(intake_service, factories.new_job(owner, fresh=True), references("new a", "new b")).id
    threads[0].join()
    assert sorted(factories.image_states(db)) == ["new a", "new b"]
    claims = factories.claim_images(db)
    assert [claim.job_id for claim in claims] == [id_, id_]
    assert all(intake_service.blob_store.get(claim.sha256) for claim in claims)


def test_an_unknown_reference_does_not_reject_what_is_written_with_it(db, owner):
    """Submissions of several callers share a transaction; each has its own outcome."""
    writer = job_writer.JobWriter(db, NoStore(), CountingWakeup(lambda: 0), None)
    unknown = new_image.NewImage("lost", "f" * 64, 1, reference="#/images/0/sha256")
    submissions = [(factories.new_job(owner), [image]) for image in (factories.new_image("a"), unknown)]
    good, bad = writer._write(submissions)
    assert good.total == 1
    assert isinstance(bad, errors.UnknownBlob)
    assert list(factories.image_states(db)) == ["a"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_row_that_exceeds_a_limit_of_the_database_does_not_reject_what_is_written_with_it(db, owner):
    """An entry of an index of PostgreSQL has at most 2,704 bytes; only the submission that exceeds it fails."""
    writer = job_writer.JobWriter(db, NoStore(), CountingWakeup(lambda: 0), None)
    names = ("a", factories.incompressible_name(3000), "b")
    first, bad, last = writer._write([(factories.new_job(owner), [factories.new_image(name)]) for name in names])
    assert (first.total, last.total) == (1, 1)
    assert isinstance(bad, sa.exc.OperationalError)
    assert sorted(factories.image_states(db)) == ["a", "b"]


def test_a_name_has_a_length_in_bytes(intake_service, db, owner):
    """The longest can be stored, whatever its characters; a longer one is one clear error, however it is sent."""
    longest, longer = (factories.incompressible_name(file_names.MAX_NAME_BYTES + more) for more in (0, 1))
    (image,) = uploads(longest)
    factories.submit_job(intake_service, factories.new_job(owner), [image])
    images = [
        service.Upload(longer, image.data),
        service.BlobReference(longer, hashlib.sha256(image.data).hexdigest()),
        service.UrlReference(longer, "https://images.example/a.jpg"),
    ]
    job = factories.create_job(db, owner, sealed=False)
    for image in images:
        with pytest.raises(errors.BadParameter, match="at most 2,600 bytes in UTF-8; this one has 2,601"):
            factories.submit_job(intake_service, factories.new_job(owner), [image])
        with pytest.raises(errors.BadParameter, match="at most 2,600 bytes in UTF-8; this one has 2,601"):
            intake_service.add_images(job, owner, [image])
    assert list(factories.image_states(db)) == [longest]


def test_a_repeat_is_the_first_job_also_when_its_bytes_are_gone(db, owner):
    """It inserts nothing that would need them."""
    order = factories.new_job(owner, idempotency_key="k", fingerprint="f")
    first = factories.create_job(db, owner, "a", idempotency_key="k", fingerprint="f")
    unknown = new_image.NewImage("a", "f" * 64, 1, reference="#/images/0/sha256")
    (row,) = db.write(jobs.insert_jobs, [(order, [unknown])])
    assert row.id == first
