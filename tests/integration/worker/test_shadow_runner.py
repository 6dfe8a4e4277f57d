import os
import signal
import threading
import time

import numpy as np
import pytest
import sqlalchemy as sa

from core import enums, errors, settings
from core.db import tables
from core.db.queries import claims as claim_queries
from core.db.queries import models
from core.intake import model_upload as uploads
from core.sources import catalog
from tests.support import bundles, factories, waiting
from worker import batch, batch_tracing, shadow_runner
from worker.decoding import decode_batch, decoder_process
from worker.models import model_manager, model_process

SHADOWS = tables.ShadowResult.__table__
LIMITS = decoder_process.DecodeLimits(10, 768_000_000)


@pytest.fixture
def database_url(sqlite_database_url):
    """Use SQLite only: tests/integration/core/db/queries/test_shadows.py tests the queries on both databases."""
    return sqlite_database_url


@pytest.fixture(scope="module")
def candidate_bundles(tmp_path_factory):
    """Make candidate bundles: 12 and 13 expect different image sizes; 9 cannot be used."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "12": bundles.make_bundle(folder, "12", size=64, constant_label="sushi"),
        "13": bundles.make_bundle(folder, "13", size=40, seed=3),
        "9": bundles.make_failing_bundle(folder, size=22),
    }


@pytest.fixture
def make_model_manager(db, blob_store, tmp_path, candidate_bundles):
    """Make a model manager with these shadow versions: v{version}={share}."""
    manager = model_manager.ModelManager(
        settings.Settings(device="cpu", model_cache=tmp_path / "cache"), db, blob_store, "w1"
    )
    db.write(manager.register_default)

    def make(**shares):
        admin = factories.create_key(db, "boss", enums.Role.ADMIN)
        for name, share in shares.items():
            uploads.register_bundle(db, blob_store, bundles.read_files(candidate_bundles[name[1:]]), admin)
            db.write(models.set_shadow_share, bundles.NAME, name[1:], share)
        manager.refresh()
        return manager

    return make


@pytest.fixture
def start_shadow_runner(db, blob_store):
    """Start shadow runners; close them at the end."""
    started = []

    def start(manager, db=db):
        started.append(shadow_runner.ShadowRunner(db, manager, blob_store, LIMITS, catalog.SourceCatalog({})))
        return started[-1]

    yield start
    for runner in started:
        runner.close()


@pytest.fixture
def classify_live(db, owner, put_blob, make_jpeg):
    """Let the live version classify `count` images; return the batch that is then offered to shadow versions."""

    def classify(manager, count, bad=()):
        sha256s = [put_blob(make_jpeg(number)) for number in range(count)]
        images = [factories.new_images.NewImage(f"{number:02}", sha256, 100) for number, sha256 in enumerate(sha256s)]
        db.write(factories.insert_job, factories.new_job(owner, fresh=True), images)
        claims = factories.claim_images(db, limit=count)
        live = manager.default_model
        pixels = np.stack([live.preprocess.decode(make_jpeg(number)) for number in range(count)])
        error = errors.ImageFailed("undecodable", "No.")
        decode_outcomes = [decode_batch.DecodeOutcome(error if row in bad else None, 1.0) for row in range(count)]
        outcomes = live.batch_classifier.classify(claims, pixels, decode_outcomes)
        db.write(claim_queries.finish, outcomes, live.model_ref)
        trace = batch_tracing.BatchTrace(db, "w1", claims)
        return batch.Batch(live, claims, trace, pixels=pixels, decode_outcomes=decode_outcomes)

    return classify


def wait_for_rows(db, count):
    """Return the rows that the shadow versions have written, once there are `count`."""
    query = sa.select(SHADOWS).order_by(SHADOWS.c.model_id, SHADOWS.c.image_id)
    rows = waiting.wait_until(lambda: len(rows := db.read(lambda conn: conn.execute(query).all())) >= count and rows)
    assert len(rows) == count
    return rows


def test_a_shadow_version_classifies_its_share_of_the_live_images(
    db, make_model_manager, start_shadow_runner, classify_live
):
    """It gets the same pixels, gives its own labels, and writes to its own table; the results stay."""
    manager = make_model_manager(v12=0.5)
    live_batch = classify_live(manager, 40)
    before = db.read(lambda conn: conn.execute(sa.select(factories.RESULTS)).all())
    start_shadow_runner(manager).offer(live_batch)
    expected = [claim.image_id for claim in live_batch.claims if shadow_runner.is_sampled(claim.image_id, 0.5)]
    rows = wait_for_rows(db, len(expected))
    assert [row.image_id for row in rows] == expected
    assert {row.label for row in rows} == {"sushi"}
    assert all(row.error_code is None and row.timings["batch"] == len(expected) for row in rows)
    assert db.read(lambda conn: conn.execute(sa.select(factories.RESULTS)).all()) == before


def test_a_shadow_version_with_another_image_size_decodes_again(
    db, make_model_manager, start_shadow_runner, classify_live, make_jpeg, candidate_bundles
):
    """Its scores are those that its bundle gives for the files."""
    from model.inference import classifier
    from model.packaging import bundle

    manager = make_model_manager(v13=1.0)
    start_shadow_runner(manager).offer(classify_live(manager, 6))
    rows = wait_for_rows(db, 6)
    alone = classifier.Classifier(bundle.load(candidate_bundles["13"]), "cpu")
    pixels = np.stack([alone.bundle.preprocess.decode(make_jpeg(number)) for number in range(6)])
    best = alone.classify(pixels).max(axis=1)
    assert [row.confidence for row in rows] == pytest.approx(list(best), abs=1e-3)


def test_images_that_could_not_be_decoded_are_not_offered(db, make_model_manager, start_shadow_runner, classify_live):
    """They do not count against a candidate."""
    manager = make_model_manager(v12=1.0)
    start_shadow_runner(manager).offer(classify_live(manager, 5, bad={1, 3}))
    assert len(wait_for_rows(db, 3)) == 3


def test_several_shadow_versions_classify_the_same_images(db, make_model_manager, start_shadow_runner, classify_live):
    """They can be compared with each other too."""
    manager = make_model_manager(v12=0.4, v13=0.4)
    start_shadow_runner(manager).offer(live_batch := classify_live(manager, 20))
    expected = [claim.image_id for claim in live_batch.claims if shadow_runner.is_sampled(claim.image_id, 0.4)]
    rows = wait_for_rows(db, 2 * len(expected))
    assert [row.image_id for row in rows] == expected * 2


def test_a_shadow_version_that_cannot_be_loaded_fails_once_and_is_then_skipped(
    db, make_model_manager, start_shadow_runner, classify_live
):
    """Its images are recorded as failures; it is not offered the next batch."""
    manager = make_model_manager(v9=1.0)
    runner = start_shadow_runner(manager)
    runner.offer(classify_live(manager, 4))
    assert {row.error_code for row in wait_for_rows(db, 4)} == {"shadow_failed"}
    assert "self-test fails" in manager.rejected()[f"{bundles.NAME}@9"]
    runner.offer(classify_live(manager, 4))
    time.sleep(0.2)
    wait_for_rows(db, 4)


def test_a_failing_shadow_version_does_no_harm(db, make_model_manager, start_shadow_runner, classify_live, monkeypatch):
    """Neither to the thread nor to the caller; the next batch is classified."""
    manager = make_model_manager(v12=1.0)
    runner = start_shadow_runner(manager)
    live_batch = classify_live(manager, 3)
    with monkeypatch.context() as patch:
        patch.setattr(shadow_runner.inference.BatchClassifier, "classify", lambda *_: 1 / 0)
        runner.offer(live_batch)
        assert {row.error_code for row in wait_for_rows(db, 3)} == {"shadow_failed"}
    runner.offer(classify_live(manager, 3))
    assert sum(row.error_code is None for row in wait_for_rows(db, 6)) == 3


def test_an_offer_never_waits_and_excess_batches_are_dropped(
    db, make_model_manager, start_shadow_runner, classify_live, monkeypatch
):
    """While the shadow thread is blocked, the live pipeline is not, and the queue is bounded."""
    manager = make_model_manager(v12=1.0)
    runner, proceed = start_shadow_runner(manager), threading.Event()
    classify = runner._classify
    monkeypatch.setattr(runner, "_classify", lambda version, sample: proceed.wait(300) and classify(version, sample))
    live_batch = classify_live(manager, 2)
    runner.offer(live_batch)
    started = time.monotonic()
    for _ in range(3 * shadow_runner.MAX_QUEUED_BATCHES):
        runner.offer(live_batch)
    assert time.monotonic() - started < 50
    assert runner.dropped >= 2 * shadow_runner.MAX_QUEUED_BATCHES
    proceed.set()
    wait_for_rows(db, 2)


def test_an_offer_never_fails(make_model_manager, start_shadow_runner, classify_live, caplog):
    """An error is logged: the results are committed already."""
    manager = make_model_manager(v12=1.0)
    live_batch = classify_live(manager, 2)
    runner = start_shadow_runner(manager)
    runner._model_manager = None
    runner.offer(live_batch)
    assert "could not be offered" in caplog.text


def test_a_share_is_part_of_every_larger_share():
    """It is the same images each time, spread evenly."""
    small, large = ({id_ for id_ in range(20_000) if shadow_runner.is_sampled(id_, share)} for share in (0.1, 0.3))
    assert small < large
    assert len(small) == pytest.approx(2000, abs=200)
    assert len(large) == pytest.approx(6000, abs=300)
    assert not any(shadow_runner.is_sampled(id_, 0.0) for id_ in range(1000))
    assert all(shadow_runner.is_sampled(id_, 1.0) for id_ in range(1000))


def test_a_shadow_version_that_dies_takes_nothing_with_it(db, make_model_manager, start_shadow_runner, classify_live):
    """Killed as when memory runs out: its batch is recorded as failed, and it is not started again."""
    manager = make_model_manager(v12=1.0)
    runner = start_shadow_runner(manager)
    runner.offer(classify_live(manager, 2))
    wait_for_rows(db, 2)
    (process,) = runner._processes.values()
    os.kill(process._process.pid, signal.SIGKILL)
    batches = [classify_live(manager, 2), classify_live(manager, 3)]
    for sample in batches:
        runner.offer(sample)
    assert [row.error_code for row in wait_for_rows(db, 4)].count("shadow_failed") == 2
    assert "died" in manager.rejected()[f"{bundles.NAME}@12"]
    assert manager.shadow_versions(bundles.NAME) == []
    waiting.wait_until(lambda: runner.dropped == 3)
    assert runner._processes == {}


def test_a_late_reply_is_not_taken_for_that_of_the_next_batch(
    db, make_model_manager, start_shadow_runner, classify_live, monkeypatch
):
    manager = make_model_manager(v12=1.0)
    runner = start_shadow_runner(manager)
    runner.offer(classify_live(manager, 2))
    wait_for_rows(db, 2)
    (process,) = runner._processes.values()
    monkeypatch.setattr(model_process, "REPLY_SECONDS", 0.0)

    runner.offer(classify_live(manager, 2))

    assert [row.error_code for row in wait_for_rows(db, 4)].count("shadow_failed") == 2
    assert "was not done" in manager.rejected()[f"{bundles.NAME}@12"]
    assert runner._processes == {}
    assert process._pipe.closed
