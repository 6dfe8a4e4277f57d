import time

import pytest
import sqlalchemy as sa

from core import enums, settings
from core.db.queries import counters
from core.intake import service
from core.maintenance import reaper
from tests.integration.worker import fakes, helpers
from tests.support import factories
from worker import batch_sizer


def test_each_batch_is_counted_with_the_reason_why_it_is_not_larger(db, make_pipeline, submit_job):
    """The first goes at once; the next are full while enough images are queued, and the last one has lingered."""
    submit_job(13)
    make_pipeline(linger_ms=1).run()
    submit_job(3)
    make_pipeline().run()
    submit_job(1)
    factories.claim_images(db, worker="lost")
    factories.expire_leases(db)
    reaper.reap(db, max_attempts=3)
    make_pipeline().run()
    counts = db.read(counters.totals)
    batches = {key[1:]: count for key, count in counts.items() if key[0] == "batches"}
    assert batches == {("full", "8"): 1, ("linger", "8"): 1, ("drain", "4"): 1, ("retry", "1"): 1}
    assert counts["batch_images", "linger"] == 5


@pytest.fixture
def report_seconds(monkeypatch):
    """Return a function that makes each batch of a model seem to take some seconds."""
    seconds_by_model, observe = {}, batch_sizer.BatchSizers.observe

    def observe_reported(sizers, model, images, _, max_size):
        observe(sizers, model, images, seconds_by_model[model], max_size)

    monkeypatch.setattr(batch_sizer.BatchSizers, "observe", observe_reported)
    return seconds_by_model.__setitem__


def test_batch_size_follows_from_the_time_that_batches_took(
    db, make_pipeline, submit_job, batch_classifier, report_seconds
):
    """Batches of a slow network become smaller once the first is done; the second is claimed by then."""
    report_seconds(factories.MODEL, 0.6)
    observed = fakes.ObservedClassifier(batch_classifier, lambda _: time.sleep(0.3))
    job_id = submit_job(170)
    pipeline = make_pipeline(classifier=observed, batch_size="auto")
    assert pipeline.sizers.size(factories.MODEL) == 64
    pipeline.run()
    assert observed.batch_sizes == [64, 64, 32, 10]
    assert pipeline.sizers.size(factories.MODEL) < 32
    assert factories.job_counts(db, job_id) == {"done": 170}
    assert db.read(counters.totals)["batch_images", "full"] == 160


def test_a_batch_is_not_larger_than_the_device_capacity(make_pipeline, submit_job, batch_classifier, monkeypatch):
    """A size that the device had no memory for is not claimed again."""
    monkeypatch.setattr(batch_classifier, "_on_cpu", False)
    monkeypatch.setattr(batch_classifier, "_max_batch", 5)
    submit_job(64)
    pipeline = make_pipeline(batch_size="auto")
    pipeline.run()
    assert pipeline.sizers.size(factories.MODEL) == 5


def test_each_model_has_its_own_batch_size(make_pipeline, submit_job, register_model, report_seconds):
    """A slow model does not make the batches of another one smaller."""
    slow, fast = fakes.fake_model("a-slow-one"), fakes.fake_model("fast")
    for name, seconds in (("a-slow-one", 0.6), ("fast", 0.05)):
        report_seconds(name, seconds)
        register_model(name)
        submit_job(64, model=name)
    pipeline = make_pipeline(manager=fakes.FakeModelManager(slow, fast), batch_size="auto")
    pipeline.run()
    assert pipeline.sizers.size("a-slow-one") == 32
    assert pipeline.sizers.size("fast") > 32


def test_a_batch_is_of_one_model_and_models_take_turns(db, make_pipeline, submit_job, register_model):
    """Two full queues: each model's images by its own classifier at its own size, batch by batch."""
    register_model("a")
    register_model("b")
    model_order = []
    a = fakes.fake_model("a", before=lambda: model_order.append("a"))
    b = fakes.fake_model("b", size=40, before=lambda: model_order.append("b"))
    submit_job(32, model="a")
    submit_job(32, model="b")
    make_pipeline(manager=fakes.FakeModelManager(a, b)).run()
    assert model_order == ["a", "b"] * 4
    assert (a.batch_classifier.batches, b.batch_classifier.batches) == ([(8, 24)] * 4, [(8, 40)] * 4)
    assert helpers.counts_by_label(db) == {"a@1": ("a@1", 32), "b@1": ("b@1", 32)}


def test_bulk_images_of_every_model_get_their_turn(
    db, make_pipeline, owner, shared_blob_store, make_jpeg, register_model
):
    """Every eighth batch of a model begins with its bulk images, however many models take turns."""
    intake = service.SubmissionService(settings.Settings(), db, shared_blob_store, fakes.FakeWakeupSender())
    for name in "ab":
        register_model(name)
        for priority, count in ((enums.Priority.BULK, 8), (enums.Priority.INTERACTIVE, 72)):
            uploads = [service.Upload(f"{n:03}.jpg", make_jpeg(n)) for n in range(count)]
            factories.submit_job(intake, factories.new_job(owner, model=name, priority=priority), uploads)
    manager = fakes.FakeModelManager(fakes.fake_model("a"), fakes.fake_model("b"))
    pipeline = make_pipeline(manager=manager, task_seconds=0.0001)
    done = 0
    while done < 2 * 8 * 8:
        pipeline.run()
        done = len(factories.result_names(db))
    bulk = sa.select(factories.IMAGES.c.model_name, sa.func.count()).join(factories.RESULTS)
    bulk = bulk.where(factories.IMAGES.c.priority == enums.Priority.BULK.value).group_by(factories.IMAGES.c.model_name)
    assert {name for name, _ in db.read(lambda conn: conn.execute(bulk).all())} == {"a", "b"}


def test_a_batch_ends_with_the_version_that_it_began_with(db, make_pipeline, submit_job, register_model):
    """Versions change while batches are in flight: each batch has one, and its results name it."""
    register_model("a")
    manager = fakes.FakeModelManager(fakes.fake_model("a"))

    def swap():
        version = int(manager.loaded["a"].model_ref.version)
        manager.loaded["a"] = fakes.fake_model("a", str(version + 1), size=24 + 8 * (version % 2), before=swap)

    manager.loaded["a"].batch_classifier.before = swap
    submit_job(80, model="a")
    make_pipeline(manager=manager).run()
    labels = helpers.counts_by_label(db)
    assert sum(count for _, count in labels.values()) == 80
    assert len(labels) > 3
    for label, (version, count) in labels.items():
        assert label == version
        assert count % 8 == 0


def test_a_model_that_cannot_be_fetched_does_not_delay_others(db, make_pipeline, submit_job, register_model):
    """Its images are handed back with their attempts; those of the other model are classified."""
    register_model("a")
    register_model("b")
    manager = fakes.FakeModelManager(fakes.fake_model("a"), fakes.fake_model("b"))
    manager.away.add("a")
    submit_job(8, model="a")
    submit_job(24, model="b")
    pipeline = make_pipeline(manager=manager)
    for _ in range(10):
        pipeline.run()
    assert helpers.counts_by_label(db) == {"b@1": ("b@1", 24)}
    columns = (factories.IMAGES.c.model_name, factories.IMAGES.c.status, factories.IMAGES.c.attempt)
    rows = db.read(lambda conn: conn.execute(sa.select(*columns)).all())
    assert set(rows) == {("a", "queued", 0), ("b", "done", 1)}
    manager.away.clear()
    pipeline.run()
    pipeline.run()
    assert helpers.counts_by_label(db)["a@1"] == ("a@1", 8)


def test_the_first_batch_goes_at_once_and_the_next_one_lingers(db, make_pipeline, submit_job, batch_classifier):
    """The first batch is never delayed; images submitted while another batch is classified share a batch."""

    def submit_late(batch_number):
        if batch_number == 1:
            submit_job(1)

    for first, batch_sizes in ((5, [3, 3]), (2, [2])):
        submit_job(first)
        observed = fakes.ObservedClassifier(batch_classifier, submit_late)
        make_pipeline(classifier=observed, batch_size=3, linger_ms=900).run()
        assert observed.batch_sizes[: len(batch_sizes)] == batch_sizes
