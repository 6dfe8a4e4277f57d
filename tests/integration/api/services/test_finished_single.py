"""A finished single image: from the worker's commit through Redis to the waiter, without a read."""

import asyncio
import threading
import time

import pytest

from api.schemas import job_responses, result_responses
from api.services import finished_single, job_watcher
from core.broker import job_events, redis_clients
from core.db.queries import environments, installation, jobs, new_images, results
from core.intake.eta_cache import EtaCache
from tests.integration.worker import fakes
from tests.support import factories
from worker import batch, batch_tracing, lease_table, progress, settlement, work_meter
from worker.decoding import decode_batch
from worker.stages import commit

ENVIRONMENT = environments.Environment(**factories.ENVIRONMENT)
TIMEOUT_SECONDS = 60  # for hangs only
ENDS = {
    "done": {"label": "sushi", "confidence": 0.1 + 0.2, "scores": {"sushi": 0.1 + 0.2}, "timings": {"decode_ms": 1.5}},
    "failed": {"label": None, "confidence": None, "scores": None, "familiarity": None, "error_code": "truncated"},
}


def commit_stage(db, redis_url, key):
    """Return a worker's commit stage with a key for its notices."""
    settler = settlement.ClaimSettler(db, lease_table.LeaseTable(), None, 30.0, threading.Event())
    events, shadow = job_events.JobEvents(redis_url, key), fakes.FakeShadowRunner()
    environment_id = db.write(environments.get_or_create_id, ENVIRONMENT)
    finished, work = progress.FinishedCounter(), work_meter.WorkMeter()
    return commit.CommitStage(settler, finished, work, events, shadow, environment_id, ENVIRONMENT)


def finish(stage, db, fields):
    """Claim what is queued, and commit this outcome for it."""
    claims = factories.claim_images(db)
    trace = batch_tracing.BatchTrace(db, "w1", claims)
    done = batch.Batch(fakes.fake_model(factories.MODEL), claims, trace)
    done.decode_outcomes = [decode_batch.DecodeOutcome(None, 1.5) for _ in claims]
    done.outcomes = [factories.outcome(claim, **fields) for claim in claims]
    stage.commit(done)


async def watch(watcher, row, action):
    """Return the row and the results that a waiter gets after an action."""
    first = asyncio.ensure_future(anext(watcher.changes("0" * 8 + "-0000-7000-8000-" + "0" * 12)))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not watcher._is_subscribed:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
        rows = watcher.changes(row.id, known_row=row)
        assert await anext(rows) is row
        await asyncio.get_running_loop().run_in_executor(None, action)
        async for latest in rows:
            if latest.finished_at is not None:
                break
        found = await watcher.results(latest)
    first.cancel()
    await rows.aclose()
    return latest, found


@pytest.fixture
def single(db, owner):
    """The row of a queued job of one image."""
    image = new_images.NewImage("a b.jpg", "0" * 64, 10, custom_id="mine")
    return db.read(jobs.get, db.write(factories.insert_job, factories.new_job(owner), [image]), owner)


@pytest.mark.parametrize("end", ENDS)
def test_the_notice_says_what_the_database_says(db, redis_url, single, monkeypatch, end):
    """Job and result, to the last digit, with the same ETag; no statement is needed for it."""
    for name in ("SUBSCRIBED_POLL_SECONDS", "UNSUBSCRIBED_POLL_SECONDS"):
        monkeypatch.setattr(job_watcher, name, 600.0)
    watcher = job_watcher.JobWatcher(db, job_events.JobEvents(redis_url), EtaCache(db))
    key = db.write(installation.get_or_create_id).encode()
    stage = commit_stage(db, redis_url, key)
    reads = []
    real = watcher._refresh
    monkeypatch.setattr(watcher, "_refresh", lambda ids: reads.append(ids) or real(ids))
    latest, found = asyncio.run(watch(watcher, single, lambda: finish(stage, db, ENDS[end])))
    stored = db.read(jobs.get, single.id, None)
    stored_results = db.read(results.list_page, results.ResultFilter(), limit=9)
    assert job_responses.serialize_job(latest, "/") == job_responses.serialize_job(stored, "/")
    assert job_responses.etag(latest) == job_responses.etag(stored)
    assert [result_responses.serialize_result(row) for row in found] == [
        result_responses.serialize_result(row) for row in stored_results
    ]
    assert found[0].custom_id == "mine"
    assert single.id not in {id_ for ids in reads for id_ in ids}


def test_a_notice_with_another_signature_is_only_a_reason_to_read(db, redis_url, single):
    """A program that may publish in Redis cannot make up a result."""
    watcher = job_watcher.JobWatcher(db, job_events.JobEvents(redis_url), EtaCache(db))
    stage = commit_stage(db, redis_url, b"forged")
    latest, _ = asyncio.run(watch(watcher, single, lambda: finish(stage, db, ENDS["done"])))
    stored = db.read(jobs.get, single.id, None)
    assert not isinstance(latest, finished_single.FinishedJob)
    assert job_responses.serialize_job(latest, "/") == job_responses.serialize_job(stored, "/")


def test_a_job_of_several_images_is_read(db, redis_url, owner):
    """Its results may be many."""
    job_id = factories.create_job(db, owner, "a", "b")
    stage = commit_stage(db, redis_url, b"key")
    with redis_clients.create(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(job_events.CHANNEL)
        finish(stage, db, ENDS["done"])
        deadline = time.monotonic() + TIMEOUT_SECONDS
        message = None
        while message is None and time.monotonic() < deadline:
            message = pubsub.get_message(timeout=1.0)
    assert message["data"].decode() == job_id
