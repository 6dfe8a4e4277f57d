import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import redis
import sqlalchemy as sa

from jobs import bell, blobs, purge, scanner, settings, sources, tables
from jobs import errors as all_errors
from jobs.store import jobs, keys, quotas, retry, scans, work
from tests import servers
from tests.jobs import making

SCANS = tables.Scan.__table__


@pytest.fixture
def camera(tmp_path):
    """A folder on the server, with two pictures in it."""
    root = tmp_path / "camera"
    (root / "2026").mkdir(parents=True)
    for number, name in enumerate(("a.png", "2026/b.png")):
        (root / name).write_bytes(making.picture(number))
    return root


@pytest.fixture
def photos(s3, monkeypatch):
    """The same in a bucket; its URL."""
    servers.point_at_s3(monkeypatch, s3)
    name = f"photos-{os.urandom(4).hex()}"
    servers.fill_bucket(s3, name, {"a.png": making.picture(0), "2026/b.png": making.picture(1)})
    return f"s3://{name}"


@pytest.fixture
def rounds(db, database_url, camera):
    """Rounds of a scanner in this process, until nothing is due; its settings may be others."""
    made = []

    def go(**more):
        chosen = {"database_url": database_url, "sources": f"camera={camera}"} | more
        one = scanner.Scanner(settings.Settings(**chosen), db)
        made.append(one)
        while one.look():
            one.finish()

    yield go
    for one in made:
        one.close()


@pytest.fixture
def order(db, owner):
    """Has a new job filled from the camera; its id."""

    def make(source="camera", who=owner, job=None, **fields):
        id_ = job or db.write(jobs.create, making.order(who, sealed=False), [])
        db.write(scans.order, id_, who, scans.NewScan(source, **fields))
        return id_

    return make


def scan(db, job_id):
    """How the scan of a job is: status, found, skipped, error."""
    row = making.view(db, job_id)
    return row.scan_status, row.scan_found, row.scan_skipped, row.scan_error


def pass_time(db):
    """Let every scan be due, and every lease be over, as if time had gone by."""
    past = {name: sa.text("'2020-01-01 00:00:00'") for name in ("next_at", "lease_until")}
    db.write(lambda c: c.execute(sa.update(SCANS).where(SCANS.c.status == "pending").values(past)))


def codes(db, job_id):
    """The error codes of what has failed in a job, by name."""
    image, result = making.IMAGES, making.RESULTS
    query = sa.select(image.c.name, result.c.error_code).join(result, result.c.image_id == image.c.id)
    query = query.where(image.c.job_id == job_id, result.c.error_code.is_not(None))
    return dict(map(tuple, db.read(lambda c: c.execute(query).all())))


@pytest.mark.parametrize("kind", ["camera", "photos"])
def test_a_job_is_filled_sealed_and_done(db, order, rounds, camera, kind, request):
    """From a folder and from a bucket: each picture once, by its path, and nothing is stored anew."""
    place = request.getfixturevalue(kind)
    job_id = order()
    assert not making.view(db, job_id).sealed_at
    rounds(sources=f"camera={place}")
    assert scan(db, job_id) == ("done", 2, 0, None)
    assert making.view(db, job_id).sealed_at is not None

    listed = sources.Sources.read(f"camera={place}")
    claims = making.claim(db, sources=["camera"])
    read = {claim.name: listed.reader(claim.source, claim.location, claim.bytes)() for claim in claims}
    assert read == {"a.png": making.picture(0), "2026/b.png": making.picture(1)}
    assert making.finish(db, claims) == 2
    assert making.counts(db, job_id) == {"done": 2}


def test_a_worker_takes_only_what_it_can_read(db, order, rounds):
    """One that does not know the source leaves its pictures to others, and does not take them for waiting work."""
    order()
    rounds()
    assert making.claim(db) == []
    assert making.claim(db, sources=["other"]) == []
    assert not db.read(work.waits, [making.MODEL])
    assert db.read(work.waits, [making.MODEL], ["camera"])
    assert len(making.claim(db, sources=["camera", "other"])) == 2


def test_prefix_and_globs_are_heeded(db, order, rounds):
    """As they are for the walk."""
    one, other = order(prefix="2026"), order(exclude=["2026"])
    rounds()
    assert (scan(db, one), scan(db, other)) == (("done", 1, 0, None), ("done", 1, 0, None))


def test_bad_pictures_fail_by_themselves(db, order, rounds, camera):
    """By their headers and sizes, as if they had been sent; what is too large is not even read."""
    (camera / "text.jpg").write_text("no picture")
    (camera / "none.jpg").touch()
    with (camera / "huge.jpg").open("wb") as huge:
        huge.truncate(5_000_000_000)
    (camera / "notes.txt").write_text("left alone")
    job_id = order()
    rounds(max_image_bytes=50_000)
    assert codes(db, job_id) == {"text.jpg": "unsupported_format", "none.jpg": "empty", "huge.jpg": "too_large"}
    assert scan(db, job_id) == ("done", 5, 1, None)
    making.finish(db, making.claim(db, sources=["camera"]))
    assert making.counts(db, job_id) == {"done": 2, "failed": 3}


class Miser(http.server.BaseHTTPRequestHandler):
    """A bucket that lists two pictures, and gives one of them."""

    LISTED = "<Contents><Key>{}.png</Key><Size>{}</Size><LastModified>2026-01-31T12:00:00Z</LastModified></Contents>"

    def do_GET(self):
        data = making.picture()
        listed = "".join(self.LISTED.format(name, len(data)) for name in ("archived", "good"))
        listing = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>'
        refuses = "archived.png" in self.path
        body = b"" if refuses else listing.encode() if "list-type" in self.path else data
        self.send_response(403 if refuses else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sat, 31 Jan 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Silent."""


def test_a_picture_that_its_bucket_refuses_fails_by_itself(db, order, rounds, monkeypatch):
    """An archived one, for instance; the others are found."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Miser) as server:
        threading.Thread(target=server.serve_forever).start()
        servers.point_at_s3(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        job_id = order()
        rounds(sources="camera=s3://photos")
        server.shutdown()
    assert scan(db, job_id) == ("done", 2, 0, None)
    assert codes(db, job_id) == {"archived.png": "blob_missing"}


def test_what_was_classified_before_is_answered_at_once(db, order, rounds):
    """By the digest, whether it was sent or lies in a source."""
    making.live(db)
    order()
    rounds()
    making.finish(db, making.claim(db, sources=["camera"]))
    again = order()
    rounds()
    assert making.counts(db, again) == {"done": 2}
    assert making.claim(db, sources=["camera"]) == []


def test_a_bad_place_ends_the_scan_and_the_job(db, order, rounds):
    """No such folder, no such source any more: failed, with a reason, and the job ends, empty."""
    one, other = order(prefix="2027"), order(source="kitchen")
    rounds()
    status, _, _, error = scan(db, one)
    assert status == "failed"
    assert "2027" in error
    assert scan(db, other)[0] == "failed"
    assert making.view(db, one).finished_at is not None


def test_a_source_that_is_away_is_tried_again_and_at_last_given_up(db, order, rounds, camera):
    """A folder that is not mounted may come back."""
    job_id = order()
    camera.rename(camera.parent / "away")
    rounds()
    status, _, _, error = scan(db, job_id)
    assert (status, "camera does not answer" in error) == ("pending", True)
    (camera.parent / "away").rename(camera)
    pass_time(db)
    rounds()
    assert scan(db, job_id) == ("done", 2, 0, None)

    other = order()
    shutil.rmtree(camera)
    for _ in range(scans.MOST_VAIN):
        assert scan(db, other)[0] == "pending"
        pass_time(db)
        rounds()
    assert scan(db, other)[0] == "failed"
    assert making.view(db, other).finished_at is not None


def test_sealing_waits_for_the_end_of_the_scan(db, order, owner, rounds):
    """And a scan that is not to seal leaves the job open."""
    one, other = order(seals=False), order(seals=False)
    db.write(jobs.seal, one, owner)
    assert making.view(db, one).sealed_at is None
    rounds()
    assert making.view(db, one).sealed_at is not None
    assert making.view(db, other).sealed_at is None


def test_the_same_order_again_changes_nothing(db, order, owner, rounds):
    """Another is refused, and so is one for a job that is sealed, or somebody else's."""
    job_id = order(prefix="2026")
    order(job=job_id, prefix="2026")
    with pytest.raises(all_errors.ScanTaken):
        order(job=job_id)
    rounds()
    order(job=job_id, prefix="2026")
    assert scan(db, job_id) == ("done", 1, 0, None)
    with pytest.raises(all_errors.JobSealed):
        order(job=making.job(db, owner, "x"))
    stranger = db.write(keys.create, "stranger", tables.Role.SUBMIT, keys.make()).id
    with pytest.raises(all_errors.JobNotFound):
        order(job=job_id, who=stranger, prefix="2026")


def test_cancelling_stops_the_scan(db, order, owner, rounds):
    """Also one that is under way: what it has in hand comes too late."""
    job_id = order()
    (claimed,) = db.write(scans.claim, limit=1)
    db.write(jobs.cancel, job_id, owner)
    with pytest.raises(scans.Lost):
        db.write(scans.take, claimed, scans.Page([making.image("a.png")], 0, "a.png"), quotas.NONE)
    rounds()
    assert scan(db, job_id) == ("cancelled", 0, 0, None)
    assert making.view(db, job_id).status == "cancelled"


def test_a_scanner_that_has_lost_its_lease_writes_nothing(db, order):
    """The fence: another has taken the scan up meanwhile."""
    job_id = order()
    (late,) = db.write(scans.claim, limit=1)
    pass_time(db)
    (next_,) = db.write(scans.claim, limit=1)
    page = scans.Page([making.image("a.png")], 0, "a.png")
    with pytest.raises(scans.Lost):
        db.write(scans.take, late, page, quotas.NONE)
    for write in (scans.put_back, lambda c, claim: scans.end(c, claim, tables.ScanStatus.FAILED, "x")):
        db.write(write, late)
    moved = db.write(scans.take, next_, page, quotas.NONE)
    with pytest.raises(scans.Lost):
        db.write(scans.take, next_, page, quotas.NONE)
    db.write(scans.end, moved, tables.ScanStatus.DONE)
    assert scan(db, job_id) == ("done", 1, 0, None)


def test_quotas_and_the_queue_s_watermark_are_obeyed(db, order, rounds, owner):
    """A scan waits like everybody else, says for what, and goes on when there is room."""
    db.write(keys.change, owner, {"open_images": 1})
    job_id = order()
    rounds()
    status, found, _, error = scan(db, job_id)
    assert (status, found) == ("pending", 1)
    assert "open" in error
    making.finish(db, making.claim(db, sources=["camera"]))
    pass_time(db)
    rounds()
    assert scan(db, job_id) == ("done", 2, 0, None)
    assert making.counts(db, job_id) == {"done": 1, "queued": 1}

    db.write(keys.change, owner, {"open_images": None})
    other = order()
    rounds(max_queued_images=2)
    assert scan(db, other)[:2] == ("pending", 0)
    assert "queue is full" in scan(db, other)[3]


def test_a_picture_that_the_quota_never_allows_ends_the_scan(db, order, rounds, owner):
    """Else it would be tried for ever."""
    db.write(keys.change, owner, {"open_bytes": 10})
    job_id = order()
    rounds()
    assert scan(db, job_id)[0] == "failed"


def test_a_revoked_key_takes_in_nothing_more(db, order, rounds, owner):
    job_id = order()
    db.write(keys.revoke, owner)
    rounds()
    assert scan(db, job_id)[:2] == ("failed", 0)


def test_a_scan_gives_others_their_turn(db, order, rounds, monkeypatch):
    """However much one has to do, it works for a while, and then the others are next."""
    monkeypatch.setattr(scanner, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(scanner, "PAGE", 1)
    ids = [order() for _ in range(5)]
    rounds()
    assert {scan(db, id_) for id_ in ids} == {("done", 2, 0, None)}


def test_a_retry_finds_the_pictures_where_they_lie(db, order, rounds, owner):
    """The new job's pictures have the same place."""
    job_id = order()
    rounds()
    making.finish(db, making.claim(db, sources=["camera"]), label=None, error_code="blob_missing", error_detail="Gone.")
    db.write(retry.retry, job_id, owner)
    assert [(c.source, c.location) for c in making.claim(db, sources=["camera"])] == [
        ("camera", "2026/b.png"),
        ("camera", "a.png"),
    ]


def test_a_purge_removes_nothing_of_a_source(db, order, rounds, camera, tmp_path, owner):
    """Neither its files, nor a blob of the same bytes that another job still has."""
    store = blobs.Folder(tmp_path / "blobs")
    digest = hashlib.sha256(making.picture(0)).hexdigest()
    store.put([(digest, making.picture(0))])
    image = making.incoming.NewImage("sent.png", digest, 100)
    db.write(jobs.create, making.order(owner), [image])
    job_id = order()
    rounds()
    making.finish(db, making.claim(db, sources=["camera"])[1:])
    assert making.counts(db, job_id) == {"done": 2}
    long_ago = sa.update(making.JOBS).where(making.JOBS.c.id == job_id).values(finished_at=sa.text("'2020-01-01'"))
    db.write(lambda c: c.execute(long_ago))
    os.utime(store.path(digest), (0, 0))
    assert purge.run(db, store, days=1) == 0
    assert sorted(path.name for path in camera.rglob("*.png")) == ["a.png", "b.png"]
    assert store.get(digest) == making.picture(0)
    with pytest.raises(all_errors.JobPurged):
        making.view(db, job_id)


def test_overdue_is_what_nobody_works_on_however_long_the_line(db, owner, order):
    """Scans that wait behind others are no reason to call for somebody."""
    for _ in range(3):
        order()
    assert db.read(scans.overdue) == 0
    pass_time(db)
    assert db.read(scans.overdue) == 3
    (claimed,) = db.write(scans.claim, limit=1)
    assert db.read(scans.overdue) == 0
    db.write(scans.put_back, claimed)
    assert db.read(scans.overdue) == 2


def test_a_scanner_killed_on_the_way_is_made_good(db, database_url, camera, order):
    """Kill -9 of the courier in the middle: at the end everything is there, and nothing twice."""
    for number in range(300):
        (camera / f"{number:04}.png").write_bytes(making.picture(number))
    job_id = order()
    environ = os.environ | {"SORTBELT_DATABASE_URL": database_url, "SORTBELT_SOURCES": f"camera={camera}"}

    def start():
        return subprocess.Popen([sys.executable, "-m", "jobs.courier", "--loglevel", "INFO"], env=environ)

    courier = start()
    until(lambda: scan(db, job_id)[1])
    courier.send_signal(signal.SIGKILL)
    courier.wait()
    before = scan(db, job_id)
    pass_time(db)
    courier = start()
    try:
        until(lambda: scan(db, job_id)[0] == "done")
    finally:
        courier.terminate()
        assert courier.wait(30) == 0

    assert before[0] == "pending"
    assert scan(db, job_id) == ("done", 302, 0, None)
    assert making.view(db, job_id).total == 302
    assert len(making.images(db)) == 302
    assert len(making.claim(db, limit=5000, sources=["camera"])) == 302


def until(what, seconds=30):
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_bell_is_rung_for_what_was_found(rounds, order):
    """Workers begin with the first page while the next is read; nobody is called for an empty folder."""
    with servers.redis() as (url, _), redis.Redis.from_url(url) as client:
        order(include=["*.gif"])
        rounds(redis_url=url)
        time.sleep(0.1)
        assert not client.llen(bell.QUEUE)
        order()
        rounds(redis_url=url)
        until = time.monotonic() + 10
        while not client.llen(bell.QUEUE):
            assert time.monotonic() < until
            time.sleep(0.01)
