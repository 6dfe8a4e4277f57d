import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import pytest
import redis
import sqlalchemy as sa

from core import enums, settings
from core import errors as all_errors
from core.broker import celery_app
from core.db import tables
from core.db.queries import api_keys, deletions, jobs, quotas, retries, scans
from core.db.queries import claims as claim_queries
from core.maintenance import retention
from core.sources import catalog
from core.sources import local as local_source
from core.storage import local
from dispatcher import source_importer
from tests.support import factories, servers, waiting

SCANS = tables.Scan.__table__


@pytest.fixture
def source_dir(tmp_path):
    """A folder on the server, with two images in it."""
    root = tmp_path / "camera"
    (root / "2026").mkdir(parents=True)
    for number, name in enumerate(("a.png", "2026/b.png")):
        (root / name).write_bytes(factories.make_image(number))
    return root


@pytest.fixture
def source_bucket(s3_url, monkeypatch):
    """The same in a bucket; its URL."""
    servers.set_s3_environment(monkeypatch, s3_url)
    name = f"photos-{os.urandom(4).hex()}"
    servers.create_bucket(s3_url, name, {"a.png": factories.make_image(0), "2026/b.png": factories.make_image(1)})
    return f"s3://{name}"


@pytest.fixture
def run_importer(db, database_url, source_dir):
    """Rounds of a scanner in this process, until nothing is due; its settings may be others."""

    def go(**more):
        chosen = {"database_url": database_url, "sources": f"camera={source_dir}"} | more
        one = source_importer.SourceImporter(settings.Settings(**chosen), db)
        while one.poll():
            one.finish()

    return go


@pytest.fixture
def start_import(db, owner):
    """Has a new job filled from the camera; its id."""

    def make(source="camera", who=owner, job=None, **fields):
        id_ = job or db.write(factories.insert_job, factories.new_job(who, sealed=False), [])
        db.write(scans.create, id_, who, scans.NewScan(source, **fields))
        return id_

    return make


def scan(db, job_id):
    """How the scan of a job is: status, found, skipped, error."""
    row = factories.get_job(db, job_id)
    return row.scan_status, row.scan_found, row.scan_skipped, row.scan_error


def pass_time(db):
    """Let every scan be due, and every lease be over, as if time had gone by."""
    pending = sa.update(SCANS).where(SCANS.c.status == "pending")
    past = sa.text("'2020-01-01 00:00:00.000000'")  # as SQLite has it: a lease is compared as text
    db.write(lambda c: c.execute(pending.values(next_attempt_at=past)))
    db.write(lambda c: c.execute(pending.where(SCANS.c.lease_until.is_not(None)).values(lease_until=past)))


def scan_row(db, job_id):
    """The row of a job's scan."""
    return db.read(lambda c: c.execute(sa.select(SCANS).where(SCANS.c.job_id == job_id)).one())


def codes(db, job_id):
    """The error codes of what has failed in a job, by name."""
    image, result = factories.IMAGES, factories.RESULTS
    query = sa.select(image.c.name, result.c.error_code).join(result, result.c.image_id == image.c.id)
    query = query.where(image.c.job_id == job_id, result.c.error_code.is_not(None))
    return dict(map(tuple, db.read(lambda c: c.execute(query).all())))


@pytest.mark.parametrize("kind", ["source_dir", "source_bucket"])
def test_a_job_is_filled_sealed_and_done(db, start_import, run_importer, source_dir, kind, request):
    """From a folder and from a bucket: each image once, by its path, and nothing is copied."""
    place = request.getfixturevalue(kind)
    job_id = start_import()
    assert not factories.get_job(db, job_id).sealed_at
    run_importer(sources=f"camera={place}")
    assert scan(db, job_id) == ("done", 2, 0, None)
    assert factories.get_job(db, job_id).sealed_at is not None

    listed = catalog.SourceCatalog.parse(f"camera={place}")
    claims = factories.claim_images(db, sources=["camera"])
    read = {claim.name: listed.reader(claim.source, claim.location, claim.bytes)() for claim in claims}
    assert read == {"a.png": factories.make_image(0), "2026/b.png": factories.make_image(1)}
    assert factories.complete_claims(db, claims) == 2
    assert factories.job_counts(db, job_id) == {"done": 2}


def test_a_worker_takes_only_what_it_can_read(db, start_import, run_importer):
    """A worker without the source leaves its images to others, and does not count them as work."""
    start_import()
    run_importer()
    assert factories.claim_images(db) == []
    assert factories.claim_images(db, sources=["other"]) == []
    assert not db.read(claim_queries.has_queued, [factories.MODEL])
    assert db.read(claim_queries.has_queued, [factories.MODEL], ["camera"])
    assert len(factories.claim_images(db, sources=["camera", "other"])) == 2


def test_prefix_and_globs_are_heeded(db, start_import, run_importer):
    """As they are for the walk."""
    one, other = start_import(prefix="2026"), start_import(exclude=["2026"])
    run_importer()
    assert (scan(db, one), scan(db, other)) == (("done", 1, 0, None), ("done", 1, 1, None))


def test_images_in_archives_are_copied_and_what_is_left_out_is_reported(
    db, start_import, run_importer, source_dir, tmp_path, monkeypatch
):
    """By reason, and what may be an image by name; nothing is counted twice, in however many pages it comes."""
    monkeypatch.setattr(source_importer, "PAGE_IMAGES", 1)
    monkeypatch.setattr(source_importer, "TIME_SLICE_SECONDS", 0.0)
    with zipfile.ZipFile(source_dir / "holiday.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", factories.make_image(number + 10))
        archive.writestr("notes.txt", "")
    (source_dir / "broken.tar").write_bytes(b"x" * 2000)
    (source_dir / os.fsdecode(b"caf\xe9.png")).write_bytes(factories.make_image(20))
    (source_dir / "@eaDir").mkdir()
    job_id = start_import()
    run_importer(blob_store=str(tmp_path / "blobs"))

    assert scan(db, job_id) == ("done", 6, 3, None)
    row = factories.get_job(db, job_id)
    assert row.scan_skipped_by_reason == {"system file": 1, "not an image": 1, "unreadable archive": 1}
    assert row.scan_left_out == [{"name": "broken.tar", "reason": "unreadable archive"}]
    store, listed = local.LocalBlobStore(tmp_path / "blobs"), catalog.SourceCatalog.parse(f"camera={source_dir}")
    claims = factories.claim_images(db, sources=["camera"])
    read = {
        c.name: (listed.reader(c.source, c.location, c.bytes) or (lambda c=c: store.get(c.sha256)))() for c in claims
    }
    expected = {f"holiday.zip/{number}.png": factories.make_image(number + 10) for number in range(3)}
    expected |= {"a.png": factories.make_image(0), "2026/b.png": factories.make_image(1)}
    assert read == expected | {"caf\\udce9.png": factories.make_image(20)}


def test_an_image_whose_name_has_too_many_bytes_is_left_out(db, start_import, run_importer, source_dir, tmp_path):
    """PostgreSQL could not index its 930 characters; it is reported by name, and the others are in the job."""
    ideographs = factories.incompressible_name(2790)
    folder = source_dir.joinpath(*(ideographs[start : start + 80] for start in range(0, 800, 80)))
    folder.mkdir(parents=True)
    (folder / f"{ideographs[800:880]}.png").write_bytes(factories.make_image(2))
    with zipfile.ZipFile(source_dir / "long.zip", "w") as archive:
        archive.writestr(f"{ideographs}.png", factories.make_image(3))
    job_id = start_import()
    run_importer(blob_store=str(tmp_path / "blobs"))
    assert scan(db, job_id) == ("done", 2, 2, None)
    row = factories.get_job(db, job_id)
    assert row.scan_skipped_by_reason == {"name too long": 2}
    assert [one["reason"] for one in row.scan_left_out] == ["name too long"] * 2


def test_bad_images_fail_by_themselves(db, start_import, run_importer, source_dir):
    """By their headers and sizes, as if they had been sent; what is too large is not even read."""
    (source_dir / "text.jpg").write_text("not an image")
    (source_dir / "none.jpg").touch()
    with (source_dir / "huge.jpg").open("wb") as huge:
        huge.truncate(5_000_000_000)
    (source_dir / "notes.txt").write_text("left alone")
    job_id = start_import()
    run_importer(max_image_bytes=50_000)
    assert codes(db, job_id) == {"text.jpg": "unsupported_format", "none.jpg": "empty", "huge.jpg": "too_large"}
    assert scan(db, job_id) == ("done", 5, 1, None)
    factories.complete_claims(db, factories.claim_images(db, sources=["camera"]))
    assert factories.job_counts(db, job_id) == {"done": 2, "failed": 3}


class Miser(servers.QuietHandler):
    """A bucket that lists two images, and denies access to one of them."""

    LISTED = "<Contents><Key>{}.png</Key><Size>{}</Size><LastModified>2026-01-31T12:00:00Z</LastModified></Contents>"

    def do_GET(self):
        data = factories.make_image()
        listed = "".join(self.LISTED.format(name, len(data)) for name in ("archived", "good"))
        listing = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>'
        refuses = "archived.png" in self.path
        body = b"" if refuses else listing.encode() if "list-type" in self.path else data
        self.answer(403 if refuses else 200, body, {"Last-Modified": "Sat, 31 Jan 2026 12:00:00 GMT"})


def test_an_image_that_its_bucket_denies_fails_by_itself(db, start_import, run_importer, monkeypatch):
    """An archived one, for instance; the others are found."""
    with servers.serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Miser)) as server:
        servers.set_s3_environment(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        job_id = start_import()
        run_importer(sources="camera=s3://photos")
    assert scan(db, job_id) == ("done", 2, 0, None)
    assert codes(db, job_id) == {"archived.png": "blob_missing"}


class SlowBucket(Miser):
    """The same bucket, which sends no image before it may."""

    may_send = threading.Event()

    def do_GET(self):
        if "list-type" not in self.path:
            self.may_send.wait(60)
        super().do_GET()


@pytest.fixture
def slow_importer(db, database_url, monkeypatch):
    """A scanner of a slow bucket, in this process."""
    monkeypatch.setattr(SlowBucket, "may_send", threading.Event())
    with servers.serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowBucket)) as server:
        servers.set_s3_environment(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        config = settings.Settings(database_url=database_url, sources="camera=s3://photos")
        importer = source_importer.SourceImporter(config, db)
        try:
            yield importer
        finally:
            SlowBucket.may_send.set()
            importer.finish()


def test_the_lease_is_extended_while_a_page_is_read(db, start_import, slow_importer, monkeypatch):
    """However long it takes; and the page is stored under the new lease."""
    monkeypatch.setattr(source_importer, "EXTEND_SECONDS", 0.05)
    job_id = start_import()
    assert slow_importer.poll() == 1
    first = scan_row(db, job_id).lease_until
    waiting.wait_until(lambda: scan_row(db, job_id).lease_until > first)
    SlowBucket.may_send.set()
    slow_importer.finish()
    assert scan(db, job_id) == ("done", 2, 0, None)


def test_the_lease_of_a_page_that_hangs_ends(db, start_import, slow_importer, monkeypatch):
    """So that the health check of the dispatcher shows it, and another one takes over."""
    monkeypatch.setattr(source_importer, "EXTEND_SECONDS", 0.05)
    monkeypatch.setattr(source_importer, "MAX_PAGE_SECONDS", 0.0)
    job_id = start_import()
    assert slow_importer.poll() == 1
    first = scan_row(db, job_id).lease_until
    time.sleep(0.5)
    assert scan_row(db, job_id).lease_until == first
    SlowBucket.may_send.set()
    slow_importer.finish()
    assert scan(db, job_id) == ("done", 2, 0, None)


def test_a_file_that_the_disk_does_not_read_fails_alone(db, start_import, run_importer, monkeypatch):
    """The others of its page are imported."""
    read = local_source.LocalSource.read

    def read_with_error(source, path, max_bytes):
        if path == "a.png":
            raise all_errors.SourceReadError(source.name, "Input/output error")
        return read(source, path, max_bytes)

    monkeypatch.setattr(local_source.LocalSource, "read", read_with_error)
    job_id = start_import()
    run_importer()
    assert scan(db, job_id)[:2] == ("done", 2)
    assert factories.job_counts(db, job_id) == {"queued": 1, "failed": 1}


def test_a_scan_whose_lease_has_ended_is_not_claimed_beside_its_own_thread(db, start_import, slow_importer):
    """As after a pause of the database; only another dispatcher takes it over, and counts that as a failure."""
    job_id = start_import()
    assert slow_importer.poll() == 1
    pass_time(db)
    assert slow_importer.poll() == 0
    assert scan_row(db, job_id).consecutive_failures == 0
    SlowBucket.may_send.set()
    slow_importer.finish()  # its lease is another one: it writes nothing
    assert scan(db, job_id) == ("pending", 0, 0, None)
    assert slow_importer.poll() == 0
    assert scan_row(db, job_id).consecutive_failures == 1
    pass_time(db)
    assert slow_importer.poll() == 1
    slow_importer.finish()
    assert scan(db, job_id) == ("done", 2, 0, None)


def test_lost_dispatchers_are_failures_of_the_scan(db, start_import, run_importer, caplog):
    """Each is logged and delays the scan; it is repeated, but not for ever."""
    job_id = start_import()
    for number in range(1, scans.MAX_FAILURES + 1):
        assert scan(db, job_id)[0] == "pending"
        db.write(scans.claim, limit=1)
        pass_time(db)
        run_importer()
        assert scan(db, job_id)[3] == scans.DISPATCHER_LOST
        assert len([record for record in caplog.records if job_id in record.getMessage()]) == number
        pass_time(db)
    assert scan(db, job_id)[0] == "failed"
    assert factories.get_job(db, job_id).finished_at is not None


def test_a_late_failure_changes_nothing(db, start_import):
    """Of a scan that another holder has taken over."""
    job_id = start_import()
    (late,) = db.write(scans.claim, limit=1)
    pass_time(db)
    db.write(scans.claim, limit=1)
    db.write(scans.record_failure, late, "x")
    assert db.write(scans.extend_lease, late) == late
    row = scan_row(db, job_id)
    assert (row.consecutive_failures, row.error) == (0, None)


def test_what_was_classified_before_is_answered_at_once(db, start_import, run_importer):
    """By the digest, whether it was sent or lies in a source."""
    factories.make_live(db)
    start_import()
    run_importer()
    factories.complete_claims(db, factories.claim_images(db, sources=["camera"]))
    again = start_import()
    run_importer()
    assert factories.job_counts(db, again) == {"done": 2}
    assert factories.claim_images(db, sources=["camera"]) == []


def test_a_bad_place_ends_the_scan_and_the_job(db, start_import, run_importer):
    """No such folder, no such source any more: failed, with a reason, and the job ends, empty."""
    one, other = start_import(prefix="2027"), start_import(source="kitchen")
    run_importer()
    status, _, _, error = scan(db, one)
    assert status == "failed"
    assert "2027" in error
    assert scan(db, other)[0] == "failed"
    assert factories.get_job(db, one).finished_at is not None


def test_a_source_that_is_away_is_tried_again_and_at_last_given_up(db, start_import, run_importer, source_dir):
    """A folder that is not mounted may come back."""
    job_id = start_import()
    source_dir.rename(source_dir.parent / "away")
    run_importer()
    status, _, _, error = scan(db, job_id)
    assert (status, "camera does not answer" in error) == ("pending", True)
    (source_dir.parent / "away").rename(source_dir)
    pass_time(db)
    run_importer()
    assert scan(db, job_id) == ("done", 2, 0, None)

    other = start_import()
    shutil.rmtree(source_dir)
    for _ in range(scans.MAX_FAILURES):
        assert scan(db, other)[0] == "pending"
        pass_time(db)
        run_importer()
    assert scan(db, other)[0] == "failed"
    assert factories.get_job(db, other).finished_at is not None


def test_sealing_waits_for_the_end_of_the_scan(db, start_import, owner, run_importer):
    """And a scan that is not to seal leaves the job open."""
    one, other = start_import(seal_when_done=False), start_import(seal_when_done=False)
    db.write(jobs.seal, one, owner)
    assert factories.get_job(db, one).sealed_at is None
    run_importer()
    assert factories.get_job(db, one).sealed_at is not None
    assert factories.get_job(db, other).sealed_at is None


def test_the_same_order_again_changes_nothing(db, start_import, owner, run_importer):
    """Another is rejected, and so is one for a sealed job, or another owner's."""
    job_id = start_import(prefix="2026")
    start_import(job=job_id, prefix="2026")
    with pytest.raises(all_errors.ScanConflict):
        start_import(job=job_id)
    run_importer()
    start_import(job=job_id, prefix="2026")
    assert scan(db, job_id) == ("done", 1, 0, None)
    with pytest.raises(all_errors.JobSealed):
        start_import(job=factories.create_job(db, owner, "x"))
    stranger = factories.create_key(db, "stranger")
    with pytest.raises(all_errors.JobNotFound):
        start_import(job=job_id, who=stranger, prefix="2026")


def test_cancelling_stops_the_scan(db, start_import, owner, run_importer):
    """Also one that is under way: what it has in hand comes too late."""
    job_id = start_import()
    (claimed,) = db.write(scans.claim, limit=1)
    db.write(jobs.cancel, job_id, owner)
    with pytest.raises(scans.LeaseLost):
        db.write(
            scans.store_page, claimed, scans.ScanPage([factories.new_image("a.png")], {}, [], "a.png"), quotas.UNSET
        )
    run_importer()
    assert scan(db, job_id) == ("cancelled", 0, 0, None)
    assert factories.get_job(db, job_id).status == "cancelled"


def test_the_import_of_a_deleted_job_has_lost_its_lease(db, start_import, owner):
    """The page that it has read comes too late, and the scan ends without an error."""
    job_id = start_import()
    (claimed,) = db.write(scans.claim, limit=1)
    db.write(deletions.delete_job, job_id, owner, owner)
    page = scans.ScanPage([factories.new_image("a.png")], {}, [], "a.png")
    with pytest.raises(scans.LeaseLost):
        db.write(scans.store_page, claimed, page, quotas.UNSET)
    db.write(scans.finish, claimed, enums.ScanStatus.DONE)
    assert scan_row(db, job_id).status == "cancelled"


def test_a_scanner_that_has_lost_its_lease_writes_nothing(db, start_import):
    """The fence: another has taken the scan up meanwhile."""
    job_id = start_import()
    (late,) = db.write(scans.claim, limit=1)
    pass_time(db)
    (next_,) = db.write(scans.claim, limit=1)
    page = scans.ScanPage([factories.new_image("a.png")], {}, [], "a.png")
    with pytest.raises(scans.LeaseLost):
        db.write(scans.store_page, late, page, quotas.UNSET)
    for write in (scans.release, lambda c, claim: scans.finish(c, claim, enums.ScanStatus.FAILED, "x")):
        db.write(write, late)
    moved = db.write(scans.store_page, next_, page, quotas.UNSET)
    with pytest.raises(scans.LeaseLost):
        db.write(scans.store_page, next_, page, quotas.UNSET)
    db.write(scans.finish, moved, enums.ScanStatus.DONE)
    assert scan(db, job_id) == ("done", 1, 0, None)


def test_quotas_and_the_queue_s_watermark_are_obeyed(db, start_import, run_importer, owner):
    """A scan waits like other submissions, says why, and continues when there is capacity."""
    db.write(api_keys.update, owner, {"open_images": 1})
    job_id = start_import()
    run_importer()
    status, found, _, error = scan(db, job_id)
    assert (status, found) == ("pending", 1)
    assert "open" in error
    factories.complete_claims(db, factories.claim_images(db, sources=["camera"]))
    pass_time(db)
    run_importer()
    assert scan(db, job_id) == ("done", 2, 0, None)
    assert factories.job_counts(db, job_id) == {"done": 1, "queued": 1}

    db.write(api_keys.update, owner, {"open_images": None})
    other = start_import()
    run_importer(max_queued_images=2)
    assert scan(db, other)[:2] == ("pending", 0)
    assert "queue is full" in scan(db, other)[3]


def test_an_image_that_the_quota_never_allows_ends_the_scan(db, start_import, run_importer, owner):
    """Else it would be tried for ever."""
    db.write(api_keys.update, owner, {"open_bytes": 10})
    job_id = start_import()
    run_importer()
    assert scan(db, job_id)[0] == "failed"


def test_a_revoked_key_takes_in_nothing_more(db, start_import, run_importer, owner):
    job_id = start_import()
    db.write(api_keys.revoke, owner)
    run_importer()
    assert scan(db, job_id)[:2] == ("failed", 0)


def test_a_scan_gives_others_their_turn(db, start_import, run_importer, monkeypatch):
    """However much one has to do, it works for a while, and then the others are next."""
    monkeypatch.setattr(source_importer, "TIME_SLICE_SECONDS", 0.0)
    monkeypatch.setattr(source_importer, "PAGE_IMAGES", 1)
    ids = [start_import() for _ in range(5)]
    run_importer()
    assert {scan(db, id_) for id_ in ids} == {("done", 2, 0, None)}


def test_a_retry_reads_the_images_from_their_source(db, start_import, run_importer, owner):
    """The new job's images have the same source and path."""
    job_id = start_import()
    run_importer()
    factories.complete_claims(
        db, factories.claim_images(db, sources=["camera"]), label=None, error_code="blob_missing", error_detail="Gone."
    )
    db.write(retries.create_retry, job_id, owner)
    assert [(c.source, c.location) for c in factories.claim_images(db, sources=["camera"])] == [
        ("camera", "2026/b.png"),
        ("camera", "a.png"),
    ]


def test_a_purge_removes_nothing_of_a_source(db, start_import, run_importer, source_dir, tmp_path, owner):
    """Neither its files, nor a blob of the same bytes that another job still has."""
    store = local.LocalBlobStore(tmp_path / "blobs")
    digest = hashlib.sha256(factories.make_image(0)).hexdigest()
    store.put([(digest, factories.make_image(0))])
    image = factories.new_images.NewImage("sent.png", digest, 100)
    db.write(factories.insert_job, factories.new_job(owner), [image])
    job_id = start_import()
    run_importer()
    factories.complete_claims(db, factories.claim_images(db, sources=["camera"])[1:])
    assert factories.job_counts(db, job_id) == {"done": 2}
    long_ago = (
        sa.update(factories.JOBS).where(factories.JOBS.c.id == job_id).values(finished_at=sa.text("'2020-01-01'"))
    )
    db.write(lambda c: c.execute(long_ago))
    os.utime(store.path(digest), (0, 0))
    assert retention.run_purge(db, store, days=1) == 0
    assert sorted(path.name for path in source_dir.rglob("*.png")) == ["a.png", "b.png"]
    assert store.get(digest) == factories.make_image(0)
    with pytest.raises(all_errors.JobPurged):
        factories.get_job(db, job_id)


def test_scans_are_overdue_only_without_a_running_importer(db, owner, start_import):
    """Scans queued behind others are not overdue."""
    for _ in range(3):
        start_import()
    assert db.read(scans.count_overdue) == 0
    pass_time(db)
    assert db.read(scans.count_overdue) == 3
    (claimed,) = db.write(scans.claim, limit=1)
    assert db.read(scans.count_overdue) == 0
    db.write(scans.release, claimed)
    assert db.read(scans.count_overdue) == 2


def test_a_scanner_killed_on_the_way_is_made_good(db, database_url, source_dir, start_import):
    """Kill -9 of the dispatcher in the middle: at the end everything is there, and nothing twice."""
    for number in range(300):
        (source_dir / f"{number:04}.png").write_bytes(factories.make_image(number))
    job_id = start_import()
    environ = os.environ | {"SORTBELT_DATABASE_URL": database_url, "SORTBELT_SOURCES": f"camera={source_dir}"}

    def start():
        return subprocess.Popen([sys.executable, "-m", "dispatcher", "--loglevel", "INFO"], env=environ)

    dispatcher = start()
    waiting.wait_until(lambda: scan(db, job_id)[1])
    dispatcher.send_signal(signal.SIGKILL)
    dispatcher.wait()
    before = scan(db, job_id)
    pass_time(db)
    dispatcher = start()
    try:
        waiting.wait_until(lambda: scan(db, job_id)[0] == "done")
    finally:
        dispatcher.terminate()
        assert dispatcher.wait(30) == 0

    assert before[0] == "pending"
    assert scan(db, job_id) == ("done", 302, 0, None)
    assert factories.get_job(db, job_id).total == 302
    assert len(factories.image_states(db)) == 302
    assert len(factories.claim_images(db, limit=5000, sources=["camera"])) == 302


def test_a_wakeup_is_sent_for_imported_images(run_importer, start_import):
    """Workers begin with the first page while the next is read; an empty folder wakes no worker."""
    with servers.run_redis() as (url, _), redis.Redis.from_url(url) as client:
        start_import(include=["*.gif"])
        run_importer(redis_url=url)
        time.sleep(0.1)
        assert not client.llen(celery_app.QUEUE_NAME)
        start_import()
        run_importer(redis_url=url)
        waiting.wait_until(lambda: client.llen(celery_app.QUEUE_NAME))
