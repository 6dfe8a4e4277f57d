import asyncio
import contextlib
import time
import types
from concurrent import futures

import pytest

from api.services import job_watcher
from core.broker import job_events
from core.db.queries import api_keys, jobs, results
from core.intake.eta_cache import EtaCache
from tests.integration.core.db.queries.test_query_plans import statements
from tests.support import factories, servers

NO_REDIS_URL = f"redis://127.0.0.1:{servers.free_port()}/0"


@pytest.fixture(autouse=True)
def _finish_reads(db, monkeypatch):
    """Finish the watchers' reads before the database is closed: a later read would leave a connection open."""
    executors = []

    class RecordedExecutor(futures.ThreadPoolExecutor):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            executors.append(self)

    monkeypatch.setattr(futures, "ThreadPoolExecutor", RecordedExecutor)
    yield
    for executor in executors:
        executor.shutdown()


async def until_ended(watched, job_id, key_id=None):
    """Return all states of a job that a waiter sees until it has ended."""
    observed = []
    async for row in watched.changes(job_id, key_id):
        observed.append((row.done, row.finished_at is not None))
        if observed[-1][1]:
            break
    return observed


def _has_rows(watched):
    """Return whether every job that is waited for has been read once."""
    return bool(watched._rows) and watched._waiters.keys() <= watched._rows.keys()


async def soon(watched, *waiting, then=lambda: None):
    """Run waiters, and call a function when all of them wait."""
    tasks = [asyncio.ensure_future(item) for item in waiting]
    async with asyncio.timeout(120):
        while not all(task.done() or _has_rows(watched) for task in tasks):  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    await asyncio.get_running_loop().run_in_executor(None, then)
    return await asyncio.wait_for(asyncio.gather(*tasks), 120)


@pytest.mark.parametrize("with_redis", [True, False])
def test_a_waiter_sees_the_end(db, owner, redis_url, with_redis):
    """With Redis and without."""
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(redis_url if with_redis else NO_REDIS_URL), EtaCache(db))
    job_id = factories.create_job(db, owner, "a", "b")
    payload = job_events.JobEvents(redis_url)

    def finish():
        factories.complete_claims(db, factories.claim_images(db))
        payload.publish([job_id])

    (observed,) = asyncio.run(soon(watched, until_ended(watched, job_id), then=finish))
    assert observed[0] == (0, False)
    assert observed[-1] == (2, True)
    assert watched._waiters == {}
    assert watched._rows == {}


def test_all_waiters_share_one_query(db, owner):
    """Sixty waiters for twenty jobs cost as many queries as one."""
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(NO_REDIS_URL), EtaCache(db))
    job_ids = [factories.create_job(db, owner, "a") for _ in range(20)]
    waiting = [until_ended(watched, job_id) for job_id in job_ids for _ in range(3)]
    looks = []

    def finish():
        looks.extend(statements(db, lambda: asyncio.run(asyncio.sleep(1))))
        factories.complete_claims(db, factories.claim_images(db))

    observed = asyncio.run(soon(watched, *waiting, then=finish))
    assert all(rows[-1] == (1, True) for rows in observed)
    questions = [statement for statement, _ in looks if "jobs" in statement]
    assert 1 <= len(questions) <= 8


def test_a_disconnected_waiter_is_forgotten(db, owner):
    """Nothing of it is left."""
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(NO_REDIS_URL), EtaCache(db))
    job_id = factories.create_job(db, owner, "a")

    async def vanish():
        task = asyncio.ensure_future(until_ended(watched, job_id, owner))
        await asyncio.sleep(0.4)
        assert watched._waiters
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(vanish())
    assert (watched._waiters, watched._rows, watched._waiters_by_key) == ({}, {}, {})


def test_a_waiter_with_a_revoked_key_ends(db, owner, monkeypatch):
    """A stream may last for hours; its key is checked periodically."""
    monkeypatch.setattr(job_watcher, "KEY_CHECK_SECONDS", 0.2)
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(NO_REDIS_URL), EtaCache(db))
    job_id = factories.create_job(db, owner, "a")
    (observed,) = asyncio.run(
        soon(watched, until_ended(watched, job_id, owner), then=lambda: db.write(api_keys.revoke, owner))
    )
    assert observed == [(0, False)]


async def subscribed(watched):
    """Wait until events are received."""
    for _ in range(10_000):
        if watched._is_subscribed:
            return
        await asyncio.sleep(0.01)


def test_a_known_row_is_read_again_after_an_event(db, owner, redis_url, monkeypatch):
    """Not before; and also if the event came just before the registration."""
    monkeypatch.setattr(job_watcher, "SUBSCRIBED_POLL_SECONDS", 60.0)
    monkeypatch.setattr(job_watcher, "UNSUBSCRIBED_POLL_SECONDS", 60.0)  # the interval at hand when it has subscribed
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(redis_url), EtaCache(db))
    payload, looks, real = job_events.JobEvents(redis_url), [], watched._refresh
    monkeypatch.setattr(watched, "_refresh", lambda ids: looks.append(set(ids)) or real(ids))
    other, mine, missed = (factories.create_job(db, owner, name) for name in "abc")
    observed = {id_: db.read(jobs.get, id_, owner) for id_ in (mine, missed)}

    async def watching():
        others = watched.changes(other)
        assert (await anext(others)).id == other
        await asyncio.wait_for(subscribed(watched), 20)
        rows = watched.changes(mine, known_row=observed[mine])
        assert await anext(rows) is observed[mine]
        await asyncio.sleep(0.1)
        assert not any(mine in ids for ids in looks)
        factories.complete_claims(db, factories.claim_images(db))
        payload.publish([mine, missed])
        assert (await asyncio.wait_for(anext(rows), 20)).done == 1
        late = watched.changes(missed, known_row=observed[missed])
        assert await anext(late) is observed[missed]
        assert (await asyncio.wait_for(anext(late), 20)).done == 1
        for each in (others, rows, late):
            await each.aclose()

    asyncio.run(watching())


async def parked(watched, db, owner):
    """Wait until events are received, and the last waiter has been gone for many polls."""
    async with contextlib.aclosing(watched.changes(factories.create_job(db, owner, "z"))) as rows:
        await anext(rows)
        await asyncio.wait_for(subscribed(watched), 20)
    await asyncio.sleep(1.0)


def test_the_first_waiter_with_a_known_row_is_polled(db, owner, redis_url, monkeypatch):
    """An event may be lost, and some ends have none; no other caller waits, for whom the jobs would be polled."""
    for name in ("SUBSCRIBED_POLL_SECONDS", "UNSUBSCRIBED_POLL_SECONDS"):
        monkeypatch.setattr(job_watcher, name, 0.05)
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(redis_url), EtaCache(db))
    mine = factories.create_job(db, owner, "a")
    known_row = db.read(jobs.get, mine, owner)

    async def watching():
        await parked(watched, db, owner)
        async with contextlib.aclosing(watched.changes(mine, known_row=known_row)) as rows:
            assert await anext(rows) is known_row
            factories.complete_claims(db, [claim for claim in factories.claim_images(db) if claim.job_id == mine])
            return await asyncio.wait_for(anext(rows), 20)

    assert asyncio.run(watching()).done == 1


def test_the_first_waiter_with_a_known_row_reads_nothing_at_once(db, owner, redis_url, monkeypatch):
    """Its caller has just read the job; however long no caller has waited."""
    monkeypatch.setattr(job_watcher, "SUBSCRIBED_POLL_SECONDS", 0.05)
    monkeypatch.setattr(job_watcher, "UNSUBSCRIBED_POLL_SECONDS", 0.05)
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(redis_url), EtaCache(db))
    looks, real, offset = [], watched._refresh, [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + offset[0])
    monkeypatch.setattr(job_watcher, "time", clock)
    mine = factories.create_job(db, owner, "a")
    known_row = db.read(jobs.get, mine, owner)

    async def watching():
        await parked(watched, db, owner)
        monkeypatch.setattr(watched, "_refresh", lambda ids: looks.append(ids) or real(ids))
        monkeypatch.setattr(job_watcher, "SUBSCRIBED_POLL_SECONDS", 600.0)
        offset[0] = 10_000.0
        async with contextlib.aclosing(watched.changes(mine, known_row=known_row)) as rows:
            assert await anext(rows) is known_row
            await asyncio.sleep(0.5)

    asyncio.run(watching())
    assert looks == []


def test_concurrent_results_are_read_in_one_query(db, owner, monkeypatch):
    """Each waiter gets those of its job, up to the limit."""
    monkeypatch.setattr(job_watcher, "MAX_RESULTS", 2)
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(NO_REDIS_URL), EtaCache(db))
    ids = [factories.create_job(db, owner, *names) for names in ("a", "bc", "def")]
    factories.complete_claims(db, factories.claim_images(db))
    rows = [db.read(jobs.get, id_, owner) for id_ in ids]
    reads, real = [], results.first_per_job
    monkeypatch.setattr(
        results, "first_per_job", lambda c, values, **how: reads.append(len(values)) or real(c, values, **how)
    )

    async def wanting():
        return await asyncio.gather(*(watched.results(row) for row in [*rows, rows[0]]))

    answers = asyncio.run(wanting())
    assert [[row.name for row in answer] for answer in answers] == [["a"], ["b", "c"], ["d", "e"], ["a"]]
    assert reads == [3]


def test_a_lost_event_is_made_good_under_events_of_other_jobs(db, owner):
    """All jobs with waiters are polled periodically."""
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(NO_REDIS_URL), EtaCache(db))
    other, mine = (factories.create_job(db, owner, name) for name in "ab")

    async def publish_events():
        while True:
            watched._mark_dirty({other})
            await asyncio.sleep(0.02)

    async def watching():
        others = asyncio.ensure_future(until_ended(watched, other))
        waiting = asyncio.ensure_future(until_ended(watched, mine))
        await asyncio.sleep(0.5)
        noise = asyncio.ensure_future(publish_events())
        (claim,) = [claim for claim in factories.claim_images(db) if claim.job_id == mine]
        factories.complete_claims(db, [claim])
        assert (await asyncio.wait_for(waiting, 20))[-1] == (1, True)
        noise.cancel()
        others.cancel()

    asyncio.run(watching())


def test_an_unexpected_error_does_not_end_polling(db, owner, monkeypatch, caplog):
    """Waiters would wait for ever: it is logged, and the jobs are read again."""
    watched = job_watcher.JobWatcher(db, job_events.JobEvents(NO_REDIS_URL), EtaCache(db))
    job_id = factories.create_job(db, owner, "a")
    get_many, failures = jobs.get_many, [RuntimeError("a bug")]

    def fail_once(conn, ids):
        if failures:
            raise failures.pop()
        return get_many(conn, ids)

    monkeypatch.setattr(job_watcher.jobs, "get_many", fail_once)
    factories.complete_claims(db, factories.claim_images(db))

    async def wait():
        return await asyncio.wait_for(until_ended(watched, job_id), 60)

    states = asyncio.run(wait())
    assert states[-1] == (1, True)
    assert "a bug" in caplog.text
