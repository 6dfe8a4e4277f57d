import time

from core.db.queries import counters
from tests.integration.worker import fakes, helpers
from tests.support import factories
from worker import fair_share


def test_few_batches_are_claimed_before_the_first_is_decoded(db, make_pipeline, submit_job):
    """While the network waits for the decoders, two or three full batches are claimed."""
    for size, expected in ((8, 3), (32, 2)):
        job_id = submit_job(5 * size)
        held = fakes.HeldDecoderPool()
        pipeline = make_pipeline(batch_size=size, wrap_pool=held.wrap)
        run = helpers.start_run(pipeline)
        helpers.wait_until(lambda: len(held.held) == expected)  # noqa: B023 (called within the iteration only)
        time.sleep(0.1)
        assert helpers.running_count(db) == len(pipeline.leases.snapshot()) == expected * size
        while run.is_alive():
            if held.held:
                held.let_go()
            time.sleep(0.005)
        assert held.max_open == expected
        assert factories.job_counts(db, job_id) == {"done": 5 * size}


def test_nothing_is_claimed_ahead_of_a_partial_batch(db, make_pipeline, submit_job):
    """Images submitted meanwhile share the next batch, which is claimed once the network has work."""
    submit_job(3)
    held = fakes.HeldDecoderPool()
    pipeline = make_pipeline(wrap_pool=held.wrap)
    run = helpers.start_run(pipeline)
    helpers.wait_until(lambda: held.held)
    submit_job(2)
    submit_job(3)
    time.sleep(0.1)
    assert len(pipeline.leases.snapshot()) == 3
    held.let_go()
    helpers.wait_until(lambda: held.held)
    held.let_go()
    run.join(10)
    counts = db.read(counters.totals)
    assert {key[2]: count for key, count in counts.items() if key[0] == "batches"} == {"4": 1, "8": 1}


def test_claimed_batches_are_handed_back_when_the_worker_stops(db, make_pipeline, submit_job, batch_classifier):
    """Even decoded ones, beyond the batch being classified; no attempt is spent on them."""
    job_id = submit_job(40)
    held = fakes.HeldDecoderPool()
    observed = fakes.ObservedClassifier(batch_classifier, lambda _: pipeline.stop())
    pipeline = make_pipeline(classifier=observed, wrap_pool=held.wrap)
    run = helpers.start_run(pipeline)
    helpers.wait_until(lambda: len(held.held) == 3)
    for _ in range(3):
        held.let_go(-1)
    run.join(10)
    assert helpers.running_count(db) == 0
    assert pipeline.leases.snapshot() == []
    assert factories.job_counts(db, job_id) == {"done": 8, "queued": 32}
    assert helpers.attempts(db, "queued") == {0}


def test_other_keys_overtake_a_batch_that_takes_long(db, make_pipeline, submit_job, monkeypatch):
    """Their images are decoded and classified meanwhile, those of its own key are not claimed, and nothing is lost.

    That goes on after the time of a run. On a busy machine the first image of a decoder may take so much CPU time that
    its key counts as slow, and overtakes nothing.
    """
    monkeypatch.setattr(fair_share, "SLOW_SECONDS", 1000.0)
    monkeypatch.setattr(fair_share, "BATCH_SECONDS", 1000.0)
    other = factories.create_key(db)
    slow_job = submit_job(20)
    pool = fakes.PoolWithSlowBatch()
    run = helpers.start_run(make_pipeline(batch_size=4, wrap_pool=pool.wrap, task_seconds=0.1))
    helpers.wait_until(lambda: pool.slow is not None)
    for count in (3, 1):
        quick_job = submit_job(count, key=other)
        helpers.wait_until(lambda: factories.job_counts(db, quick_job) == {"done": count})  # noqa: B023 (called here only)
    assert not pool.slow.done()
    assert "done" not in factories.job_counts(db, slow_job)
    pool.go.set()
    run.join(100)
    assert True in pool.urgent
    make_pipeline(batch_size=4).run()
    assert factories.job_counts(db, slow_job) == {"done": 20}
