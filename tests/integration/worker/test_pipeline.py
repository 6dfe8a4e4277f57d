import collections
import concurrent.futures
import hashlib
import http.server
import threading
import time

import pytest
import sqlalchemy as sa

from core import errors
from core.broker import wakeup
from core.db import database, tables
from core.db.queries import claims as claim_queries
from core.db.queries import new_images, quotas
from core.maintenance import reaper
from tests.integration.worker import fakes, helpers
from tests.support import factories, servers, waiting
from worker import prefetch_policy
from worker.decoding import decoder_pool


def test_every_image_of_a_job_gets_one_result(db, make_pipeline, submit_job, make_jpeg, shipped_bundle):
    """Good images get a label and the model that gave it, bad ones an error code; the job is done."""
    job_id = submit_job(30, ("cut.jpg", make_jpeg(99)[:2000]), ("text.jpg", b"text"))
    make_pipeline().run()
    assert factories.job_counts(db, job_id) == {"done": 30, "failed": 2}
    assert factories.result_names(db) == sorted(factories.image_states(db))
    query = sa.select(factories.RESULTS).where(factories.RESULTS.c.status == "done")
    rows = db.read(lambda conn: conn.execute(query).all())
    assert {row.label for row in rows} <= set(shipped_bundle.labels)
    assert {(row.model_name, row.model_version, row.model_digest) for row in rows} == {
        (shipped_bundle.name, shipped_bundle.version, shipped_bundle.digest)
    }
    assert all(0.5 <= row.confidence <= 1 and sum(row.scores.values()) == pytest.approx(1, abs=1e-4) for row in rows)
    assert factories.get_job(db, job_id).status == "done"


@pytest.mark.parametrize(("seconds", "finished"), [(0.0, 1), (600.0, 2)])
def test_the_schema_is_checked_again_after_a_while(db, make_pipeline, submit_job, monkeypatch, seconds, finished):
    """Not in each run; once it does not fit, nothing is claimed."""
    monkeypatch.setattr("worker.pipeline.SCHEMA_CHECK_SECONDS", seconds)
    pipeline = make_pipeline()
    submit_job(1)
    pipeline.run()
    submit_job(1)
    db.write(lambda conn: conn.execute(sa.text("UPDATE alembic_version SET version_num = '2001'")))
    pipeline.run()
    back = sa.text("UPDATE alembic_version SET version_num = :revision")
    db.write(lambda conn: conn.execute(back, {"revision": tables.REVISION}))
    assert len(factories.result_names(db)) == finished


def test_work_is_charged_to_the_key(db, make_pipeline, submit_job, make_jpeg, owner):
    """The CPU time of decoding, and a part of the network's time; during an outage it is charged later."""
    key_quotas = quotas.Quotas(work_seconds_per_minute=60)
    pipeline = make_pipeline()
    submit_job(5, ("cut.jpg", make_jpeg(99)[:2000]))
    pipeline.run()
    timings = db.read(lambda conn: conn.execute(sa.select(factories.RESULTS.c.timings)).scalars().all())
    network = sum(each["forward_ms"] / each["batch"] for each in timings if each["batch"]) / 1000
    gone = database.Database(f"postgresql+psycopg://u:pw@127.0.0.1:{servers.free_port()}/x")
    with pytest.raises(errors.DatabaseUnavailable):
        pipeline.work.charge(gone, key_quotas)
    gone.close()
    pipeline.work.charge(db, key_quotas)
    pipeline.work.charge(db, key_quotas)
    spent = 60 - db.read(quotas.get_usage, owner, key_quotas).remaining.seconds
    assert network * 0.5 < spent < 50


def test_labels_are_those_of_the_network(db, make_pipeline, submit_job, make_jpeg, shipped_bundle, batch_classifier):
    """The whole pipeline gives the scores that the network gives for the same pixels."""
    submit_job(5)
    make_pipeline().run()
    query = sa.select(factories.IMAGES.c.name, factories.RESULTS.c.scores).join(factories.RESULTS)
    for name, scores in db.read(lambda conn: conn.execute(query).all()):
        pixels = shipped_bundle.preprocess.decode(make_jpeg(int(name[:3])))
        probabilities = batch_classifier.network.classify(pixels[None])[0]
        assert scores == pytest.approx(dict(zip(shipped_bundle.labels, probabilities, strict=True)), abs=1e-3)


@pytest.fixture
def submit_from_source(tmp_path, db, owner, make_jpeg):
    """Submit a job of `count` images that lie in a source, as the source importer does; return its id."""
    root = tmp_path / "camera"
    root.mkdir()

    def submit(count):
        images = []
        for number in range(count):
            data, name = make_jpeg(500 + number), f"{number:03}.jpg"  # not in the blob store, which all tests share
            (root / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            images.append(new_images.NewImage(name, digest, len(data), source="camera", location=name))
        return db.write(factories.insert_job, factories.new_job(owner), images)

    submit.root = root
    return submit


def test_images_by_reference_are_read_from_their_source(
    db, make_pipeline, submit_from_source, make_jpeg, submit_job, shared_blob_store
):
    """A file that was changed, has grown, is gone or became a link fails alone; no file becomes a blob."""
    root = submit_from_source.root
    by_reference = submit_from_source(12)
    (root / "001.jpg").write_bytes(make_jpeg(77))
    (root / "002.jpg").write_bytes(make_jpeg(502) + b"more")
    (root / "003.jpg").unlink()
    (root / "004.jpg").rename(root / "real.jpg")
    (root / "004.jpg").symlink_to(root / "real.jpg")
    uploaded = submit_job(3)
    make_pipeline(sources=f"camera={root}").run()
    image, result = factories.IMAGES, factories.RESULTS
    query = sa.select(image.c.name, result.c.error_code).join(result, result.c.image_id == image.c.id)
    query = query.where(result.c.error_code.is_not(None))
    assert dict(map(tuple, db.read(lambda conn: conn.execute(query).all()))) == {
        "001.jpg": "blob_corrupt",
        "002.jpg": "blob_corrupt",
        "003.jpg": "blob_missing",
        "004.jpg": "blob_missing",
    }
    assert factories.job_counts(db, by_reference) == {"done": 8, "failed": 4}
    assert factories.job_counts(db, uploaded) == {"done": 3}
    assert not shared_blob_store.path(hashlib.sha256(make_jpeg(505)).hexdigest()).exists()


def test_an_unavailable_source_does_not_delay_other_images(
    db, make_pipeline, submit_from_source, submit_job, monkeypatch
):
    """Its images wait without spending an attempt, and are done when it is back and has cooled down."""
    root = submit_from_source.root
    by_reference = submit_from_source(20)
    root.rename(root.parent / "away")
    uploaded = submit_job(12)
    pipeline = make_pipeline(sources=f"camera={root}")
    pipeline.run()
    pipeline.run()
    assert factories.job_counts(db, by_reference) == {"queued": 20}
    assert factories.job_counts(db, uploaded) == {"done": 12}
    (root.parent / "away").rename(root)
    pipeline.run()
    assert factories.job_counts(db, by_reference) == {"queued": 20}, "it is still cooling down"
    monkeypatch.setattr(pipeline.sources, "_retry_at", {})
    pipeline.run()
    assert factories.job_counts(db, by_reference) == {"done": 20}
    assert helpers.attempts(db) == {1}


class Bucket(servers.QuietHandler):
    """A bucket that denies access to what contains one of `denied`."""

    LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

    def do_GET(self):
        folder, denied = self.server.folder, self.server.denied
        is_denied = any(part in self.path for part in denied)
        body = b"" if is_denied else self.LISTING if "list-type" in self.path else self._read(folder)
        self.answer(403 if is_denied else 200, body, {"Last-Modified": "Sat, 31 Jan 2026 12:00:00 GMT"})

    def _read(self, folder):
        return (folder / self.path.rpartition("/")[2]).read_bytes()


@pytest.fixture
def make_bucket(submit_from_source, monkeypatch):
    """Serve the images of the source as a bucket, which denies access to some; return the setting for it."""
    with servers.serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)) as server:
        servers.set_s3_environment(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        server.folder = submit_from_source.root

        def make(*denied):
            server.denied = denied
            return "camera=s3://photos"

        yield make


@pytest.mark.parametrize(("count", "denied"), [(12, [3]), (3, [0, 1, 2]), (1, [0])], ids=["one", "all", "single"])
def test_an_image_that_its_bucket_denies_fails_by_itself(
    db, make_pipeline, submit_from_source, make_bucket, count, denied
):
    """At once, also where a batch has no other image; the bucket can be listed, so it is not down."""
    job_id = submit_from_source(count)
    names = [f"{number:03}.jpg" for number in denied]
    pipeline = make_pipeline(sources=make_bucket(*names))
    pipeline.run()
    expected = {"done": count - len(denied), "failed": len(denied)}
    assert factories.job_counts(db, job_id) == {status: number for status, number in expected.items() if number}
    image, result = factories.IMAGES, factories.RESULTS
    query = sa.select(image.c.name, result.c.error_code, result.c.error_detail).join(result)
    failed = db.read(lambda conn: conn.execute(query.where(result.c.error_code.is_not(None))).all())
    assert {row.name: row.error_code for row in failed} == dict.fromkeys(names, "blob_missing")
    assert all("camera can be listed" in row.error_detail for row in failed)
    assert pipeline.sources.available() == ["camera"]


def test_a_bucket_that_denies_everything_keeps_its_images_waiting(
    db, make_pipeline, submit_from_source, make_bucket, monkeypatch
):
    """As one whose credentials have expired: no attempt is spent, and all are done once it grants access again."""
    job_id = submit_from_source(12)
    pipeline = make_pipeline(sources=make_bucket("photos"))
    pipeline.run()
    assert factories.job_counts(db, job_id) == {"queued": 12}
    assert pipeline.sources.available() == []
    make_bucket()
    monkeypatch.setattr(pipeline.sources, "_retry_at", {})
    pipeline.run()
    assert factories.job_counts(db, job_id) == {"done": 12}
    assert helpers.attempts(db) == {1}


def test_a_run_with_an_empty_queue_is_short_and_sends_no_wakeup(make_pipeline):
    wakeup_sender = fakes.FakeWakeupSender()
    started = time.monotonic()
    make_pipeline(wakeup_sender=wakeup_sender).run()
    assert time.monotonic() - started < 20
    assert wakeup_sender.sent == 0


def test_a_run_ends_in_time_and_sends_a_wakeup_if_more_is_queued(db, make_pipeline, submit_job, batch_classifier):
    """Celery handles signals between runs only."""
    job_id = submit_job(60)
    wakeup_sender = fakes.FakeWakeupSender()
    observed = fakes.ObservedClassifier(batch_classifier, lambda _: time.sleep(0.05))
    pipeline = make_pipeline(wakeup_sender=wakeup_sender, task_seconds=0.05, classifier=observed)
    pipeline.run()
    assert wakeup_sender.sent == 1
    assert 8 <= factories.job_counts(db, job_id)["done"] < 60
    assert helpers.running_count(db) == 0
    while wakeup_sender.sent:
        wakeup_sender.sent = 0
        pipeline.run()
    assert factories.job_counts(db, job_id) == {"done": 60}


def test_a_second_run_returns_at_once(db, make_pipeline, submit_job, batch_classifier):
    """A wake-up and the idle poll may coincide."""
    inside, proceed = threading.Event(), threading.Event()

    def wait(_):
        inside.set()
        proceed.wait(100)

    submit_job(3)
    pipeline = make_pipeline(classifier=fakes.ObservedClassifier(batch_classifier, wait))
    run = helpers.start_run(pipeline)
    assert inside.wait(100)
    started = time.monotonic()
    pipeline.run()
    assert time.monotonic() - started < 50  # and not after the first run
    proceed.set()
    run.join(100)
    assert helpers.running_count(db) == 0


def test_two_workers_share_a_queue_without_sharing_an_image(db, make_pipeline, submit_job):
    job_id = submit_job(60)
    runs = [helpers.start_run(make_pipeline(f"w{n}")) for n in range(2)]
    for run in runs:
        run.join()
    make_pipeline("w3").run()
    assert factories.job_counts(db, job_id) == {"done": 60}
    assert len(factories.result_names(db)) == 60


def test_a_stopping_worker_finishes_or_hands_back(db, make_pipeline, submit_job, batch_classifier):
    """No image stays claimed after the run; those not classified are queued with their attempt given back."""
    job_id = submit_job(40)
    observed = fakes.ObservedClassifier(batch_classifier, lambda _: pipeline.stop())
    pipeline = make_pipeline(classifier=observed)
    pipeline.run()
    assert helpers.running_count(db) == 0
    assert 8 <= factories.job_counts(db, job_id)["done"] <= 16
    assert helpers.attempts(db, "queued") == {0}


def test_a_stopped_worker_claims_nothing(db, make_pipeline, submit_job):
    """A wake-up that arrives after the stop is left to other workers."""
    submit_job(3)
    pipeline = make_pipeline()
    pipeline.stop()
    pipeline.run()
    assert set(factories.image_states(db).values()) == {("queued", 0)}


def test_closing_waits_for_the_current_run(db, make_pipeline, submit_job, batch_classifier):
    inside = threading.Event()

    def slow(_):
        inside.set()
        time.sleep(0.3)

    job_id = submit_job(30)
    pipeline = make_pipeline(classifier=fakes.ObservedClassifier(batch_classifier, slow))
    run = helpers.start_run(pipeline)
    inside.wait(100)
    pipeline.close()
    assert helpers.running_count(db) == 0
    assert factories.job_counts(db, job_id)["done"] >= 8
    run.join(50)
    assert not run.is_alive()


def test_a_database_outage_before_the_commit_costs_nothing(db, make_pipeline, submit_job, batch_classifier):
    """Outcomes are written once, when the database is back after two attempts, without classifying again."""
    unreliable = fakes.UnreliableDatabase(db)

    def come_back():
        waiting.wait_until(lambda: unreliable.refused >= 2)
        unreliable.is_away.clear()

    def take_away(batch_number):
        if batch_number == 1:
            unreliable.is_away.set()
            helpers.run_later(0, come_back)

    job_id = submit_job(8)
    observed = fakes.ObservedClassifier(batch_classifier, take_away)
    make_pipeline(db=unreliable, classifier=observed).run()
    assert unreliable.refused >= 2
    assert factories.job_counts(db, job_id) == {"done": 8}
    assert observed.batch_sizes == [8]
    assert helpers.attempts(db) == {1}


def test_a_long_database_outage_ends_the_run_and_the_images_are_requeued(
    db, make_pipeline, submit_job, batch_classifier
):
    """After the lease the images belong to other workers; this one goes on with the next run."""
    unreliable = fakes.UnreliableDatabase(db)
    job_id = submit_job(8)
    observed = fakes.ObservedClassifier(batch_classifier, lambda _: unreliable.is_away.set())
    pipeline = make_pipeline(db=unreliable, classifier=observed, lease_seconds=1)
    started = time.monotonic()
    pipeline.run()
    assert time.monotonic() - started < 60
    assert pipeline.leases.snapshot() == []
    unreliable.is_away.clear()
    time.sleep(0.2)
    assert reaper.reap(db, max_attempts=3) == 8
    make_pipeline("w2").run()
    assert factories.job_counts(db, job_id) == {"done": 8}


def test_an_unavailable_blob_store_hands_the_batch_back(db, make_pipeline, submit_job, monkeypatch):
    """An outage fails no image, and spends no attempt."""
    submit_job(8)
    pipeline = make_pipeline()

    def away(*_):
        raise errors.BlobsUnavailable("Away.")

    monkeypatch.setattr(decoder_pool.DecoderPool, "submit", away)
    pipeline.run()
    assert set(factories.image_states(db).values()) == {("queued", 0)}
    monkeypatch.undo()
    pipeline.run()
    assert len(factories.result_names(db)) == 8


def test_a_run_that_ends_by_an_error_hands_back_what_it_holds(db, make_pipeline, submit_job, monkeypatch):
    """As when no thread can be started: the heartbeat would extend the leases of batches that no run has in hand."""
    submit_job(8)
    pipeline = make_pipeline()

    def fail(*_, **__):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(prefetch_policy.PrefetchPolicy, "wants_another", fail)
    with pytest.raises(RuntimeError):
        pipeline.run()
    assert pipeline.leases.snapshot() == []
    assert set(factories.image_states(db).values()) == {("queued", 0)}
    monkeypatch.undo()
    pipeline.run()
    assert len(factories.result_names(db)) == 8


def test_a_failing_network_costs_an_attempt_and_no_image_is_stuck(db, make_pipeline, submit_job, batch_classifier):
    """The leases of the batch end at once, and its images are retried in smaller batches."""

    def fail(batch_number):
        if batch_number == 1:
            raise RuntimeError("a fault of the test's own")

    job_id = submit_job(20)
    pipeline = make_pipeline(classifier=fakes.ObservedClassifier(batch_classifier, fail))
    pipeline.run()
    assert pipeline.leases.snapshot() == []
    reaper.reap(db, max_attempts=3)
    assert helpers.running_count(db) == 0
    while "queued" in factories.job_counts(db, job_id):
        pipeline.run()
    assert factories.job_counts(db, job_id) == {"done": 20}


def test_an_image_that_fails_every_batch_is_found_and_fails_alone(db, make_pipeline, submit_job, batch_classifier):
    """Batches of eight, then of one: the other images are done, and the poison image fails at the cap."""

    class PoisonedClassifier(fakes.ObservedClassifier):
        def classify(self, claims, pixels, decode_outcomes):
            if any(claim.name == "003.jpg" for claim in claims):
                raise RuntimeError("a fault of the test's own")
            return super().classify(claims, pixels, decode_outcomes)

    job_id = submit_job(16)
    pipeline = make_pipeline(classifier=PoisonedClassifier(batch_classifier))
    for _ in range(30):
        pipeline.run()
        reaper.reap(db, max_attempts=3)
        if factories.get_job(db, job_id).finished_at is not None:
            break
    assert factories.job_counts(db, job_id) == {"done": 15, "failed": 1}
    codes = db.read(lambda conn: conn.execute(sa.select(factories.RESULTS.c.error_code)).scalars().all())
    assert collections.Counter(codes) == {None: 15, "worker_lost": 1}


def test_the_lease_table_holds_the_current_claims(db, make_pipeline, submit_job, batch_classifier):
    """The leases of a slow batch can be extended, so that it is not requeued under its worker."""
    during = []

    def slow(_):
        factories.expire_leases(db)
        extended = db.write(claim_queries.extend_lease, pipeline.leases.snapshot(), lease_seconds=30)
        during.append((extended, reaper.reap(db, max_attempts=3)))

    job_id = submit_job(8)
    pipeline = make_pipeline(classifier=fakes.ObservedClassifier(batch_classifier, slow))
    pipeline.run()
    assert during == [(8, 0)]
    assert pipeline.leases.snapshot() == []
    assert factories.job_counts(db, job_id) == {"done": 8}


def test_late_results_are_fenced_out(db, make_pipeline, submit_job, batch_classifier):
    """A worker frozen beyond its lease, whose images another one has finished, writes nothing."""

    def oversleep(_):
        factories.expire_leases(db)
        reaper.reap(db, max_attempts=3)
        make_pipeline("heir").run()

    job_id = submit_job(5)
    observed = fakes.ObservedClassifier(batch_classifier, oversleep)
    make_pipeline("zombie", classifier=observed, task_seconds=0.001).run()  # one batch
    assert factories.job_counts(db, job_id) == {"done": 5}
    assert len(factories.result_names(db)) == 5
    assert helpers.attempts(db) == {2}


def test_a_stalled_run_is_detected(make_pipeline, submit_job, batch_classifier):
    """A run without progress is stalled after some time; an ended one is not."""
    observations = []

    def block(_):
        time.sleep(0.3)
        assert pipeline.monitor.is_classifying
        observations.append((pipeline.monitor.is_stalled(0.2), pipeline.monitor.is_stalled(60)))

    submit_job(2)
    pipeline = make_pipeline(classifier=fakes.ObservedClassifier(batch_classifier, block))
    assert not pipeline.monitor.is_stalled(0)
    pipeline.run()
    assert observations == [(True, False)]
    assert not pipeline.monitor.is_classifying
    assert not pipeline.monitor.is_stalled(0)


def test_finished_images_are_counted_once(make_pipeline, submit_job):
    submit_job(5)
    pipeline = make_pipeline()
    pipeline.run()
    assert [pipeline.finished.take(), pipeline.finished.take()] == [5, 0]


def test_an_unreachable_redis_does_not_delay_a_run(db, make_pipeline, submit_job):
    """With the real wake-up sender."""
    job_id = submit_job(10)
    wakeup_sender = wakeup.WakeupSender(f"redis://127.0.0.1:{servers.free_port()}/0")
    pipeline = make_pipeline(wakeup_sender=wakeup_sender, task_seconds=0.001)
    started = time.monotonic()
    while "queued" in factories.job_counts(db, job_id):
        pipeline.run()
    assert time.monotonic() - started < 50
    assert factories.job_counts(db, job_id) == {"done": 10}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # only SQLite locks the whole database
def test_a_sqlite_database_locked_for_two_seconds_is_waited_for(
    database_url, db, make_pipeline, submit_job, batch_classifier
):
    """The outcomes are committed when the other writer is done."""
    other = database.Database(database_url)

    def lock(_):
        is_locked = threading.Event()

        def hold(_):
            is_locked.set()
            time.sleep(2)

        threading.Thread(target=other.write, args=(hold,)).start()
        is_locked.wait(50)

    job_id = submit_job(8)
    make_pipeline(classifier=fakes.ObservedClassifier(batch_classifier, lock)).run()
    assert factories.job_counts(db, job_id) == {"done": 8}
    other.close()


def test_shadow_versions_are_offered_committed_batches(db, make_pipeline, submit_job):
    """With their pixels, once the results are written."""
    result_counts = []
    shadow = fakes.FakeShadowRunner(lambda: result_counts.append(len(factories.result_names(db))))
    submit_job(16)
    make_pipeline(shadow=shadow).run()
    assert result_counts == [8, 16]
    assert [len(batch.claims) for batch in shadow.offered] == [8, 8]
    assert shadow.offered[0].pixels.shape[0] == 8


class CountingPool:
    """A decoder pool that records how many images it was given, and lets the first `cut` batches start only one."""

    def __init__(self, pool, cut=0):
        self.pool, self.capacity, self.last_progress_at = pool, pool.capacity, 0.0
        self.sizes, self.cut = [], cut

    def submit(self, sha256s, *options):
        """Decode a batch, or a part of it."""
        self.sizes.append(len(sha256s))
        future = self.pool.submit(sha256s, *options)
        if len(self.sizes) <= self.cut:
            pixels, outcomes = future.result()
            future = concurrent.futures.Future()
            future.set_result((pixels, outcomes[:1] + [None] * (len(outcomes) - 1)))
        return future


def test_the_same_bytes_are_decoded_once_in_a_batch(db, make_pipeline, submit_job, make_jpeg):
    """Each image gets the result all the same; a repeated one took no time."""
    pools = []
    job_id = submit_job(0, *((f"{n}.jpg", make_jpeg(n % 2)) for n in range(8)), fresh=True)
    make_pipeline(wrap_pool=lambda pool: pools.append(CountingPool(pool)) or pools[0]).run()
    assert pools[0].sizes == [2]
    assert factories.job_counts(db, job_id) == {"done": 8}
    timings = db.read(lambda conn: conn.execute(sa.select(factories.RESULTS.c.timings)).scalars().all())
    assert sorted(each["decode_ms"] > 0 for each in timings) == [False] * 6 + [True] * 2


def test_what_a_batch_has_no_time_for_goes_back_to_the_queue(db, make_pipeline, submit_job):
    """Without an attempt, and it is classified later."""
    pools = []
    job_id = submit_job(8)
    make_pipeline(wrap_pool=lambda pool: pools.append(CountingPool(pool, cut=1)) or pools[0]).run()
    assert pools[0].sizes[0] == 8
    assert factories.job_counts(db, job_id) == {"done": 8}
    assert {attempt for _, attempt in factories.image_states(db).values()} == {1}
