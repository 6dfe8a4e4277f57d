import asyncio

import pytest

from api import watch
from jobs import notices, outlook
from jobs.store import jobs, keys, results
from tests import servers
from tests.jobs import making
from tests.jobs.store.test_plans import statements

NOBODY = f"redis://127.0.0.1:{servers.free_port()}/0"


async def until_ended(watched, job_id, key_id=None):
    """All that a watcher sees of a job until it has ended."""
    seen = []
    async for row in watched.rows(job_id, key_id):
        seen.append((row.done, row.finished_at is not None))
        if seen[-1][1]:
            break
    return seen


async def soon(watched, *waiting, then=lambda: None):
    """Run watchers, and when all of them wait, do something."""
    tasks = [asyncio.ensure_future(one) for one in waiting]
    await asyncio.sleep(0.5)
    await asyncio.get_running_loop().run_in_executor(None, then)
    return await asyncio.wait_for(asyncio.gather(*tasks), 20)


@pytest.mark.parametrize("hears", [True, False])
def test_who_waits_learns_of_the_end(db, owner, redis_url, hears):
    """With Redis and without."""
    watched = watch.Watch(db, notices.Notices(redis_url if hears else NOBODY), outlook.Outlook(db))
    job_id = making.job(db, owner, "a", "b")
    told = notices.Notices(redis_url)

    def finish():
        making.finish(db, making.claim(db))
        told.tell([job_id])

    (seen,) = asyncio.run(soon(watched, until_ended(watched, job_id), then=finish))
    assert seen[0] == (0, False)
    assert seen[-1] == (2, True)
    assert watched._waiting == {}
    assert watched._rows == {}


def test_all_who_wait_share_one_look(db, owner):
    """Sixty waiters for twenty jobs cost as many queries as one."""
    watched = watch.Watch(db, notices.Notices(NOBODY), outlook.Outlook(db))
    job_ids = [making.job(db, owner, "a") for _ in range(20)]
    waiting = [until_ended(watched, job_id) for job_id in job_ids for _ in range(3)]
    looks = []

    def finish():
        looks.extend(statements(db, lambda: asyncio.run(asyncio.sleep(1))))
        making.finish(db, making.claim(db))

    seen = asyncio.run(soon(watched, *waiting, then=finish))
    assert all(rows[-1] == (1, True) for rows in seen)
    questions = [statement for statement, _ in looks if "jobs" in statement]
    assert 1 <= len(questions) <= 8


def test_who_no_longer_waits_is_forgotten(db, owner):
    """A vanished client leaves nothing behind."""
    watched = watch.Watch(db, notices.Notices(NOBODY), outlook.Outlook(db))
    job_id = making.job(db, owner, "a")

    async def vanish():
        task = asyncio.ensure_future(until_ended(watched, job_id, owner))
        await asyncio.sleep(0.4)
        assert watched._waiting
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(vanish())
    assert (watched._waiting, watched._rows, watched._keys) == ({}, {}, {})


def test_a_revoked_key_watches_no_longer(db, owner, monkeypatch):
    """A stream may last for hours; the key is looked at again and again."""
    monkeypatch.setattr(watch, "KEYS_SECONDS", 0.2)
    watched = watch.Watch(db, notices.Notices(NOBODY), outlook.Outlook(db))
    job_id = making.job(db, owner, "a")
    (seen,) = asyncio.run(soon(watched, until_ended(watched, job_id, owner), then=lambda: db.write(keys.revoke, owner)))
    assert seen == [(0, False)]


async def hearing(watched):
    """Until notices are heard."""
    for _ in range(10_000):
        if watched._hears:
            return
        await asyncio.sleep(0.01)


def test_what_was_just_seen_is_read_when_something_is_told_of_it(db, owner, redis_url, monkeypatch):
    """Not before; and also if it was told of before anybody waited."""
    monkeypatch.setattr(watch, "SURE_SECONDS", 60.0)
    watched = watch.Watch(db, notices.Notices(redis_url), outlook.Outlook(db))
    told, looks, real = notices.Notices(redis_url), [], watched._refresh
    monkeypatch.setattr(watched, "_refresh", lambda ids: looks.append(set(ids)) or real(ids))
    other, mine, missed = (making.job(db, owner, name) for name in "abc")
    seen = {id_: db.read(jobs.job, id_, owner) for id_ in (mine, missed)}

    async def watching():
        others = watched.rows(other)
        assert (await anext(others)).id == other
        await asyncio.wait_for(hearing(watched), 20)
        rows = watched.rows(mine, known=seen[mine])
        assert await anext(rows) is seen[mine]
        await asyncio.sleep(0.1)
        assert not any(mine in ids for ids in looks)
        making.finish(db, making.claim(db))
        told.tell([mine, missed])
        assert (await asyncio.wait_for(anext(rows), 20)).done == 1
        late = watched.rows(missed, known=seen[missed])
        assert await anext(late) is seen[missed]
        assert (await asyncio.wait_for(anext(late), 20)).done == 1
        for each in (others, rows, late):
            await each.aclose()

    asyncio.run(watching())


def test_results_that_are_wanted_at_once_are_read_at_once(db, owner, monkeypatch):
    """Each gets its own, also of a job that has more than are told."""
    monkeypatch.setattr(watch, "MOST_RESULTS", 2)
    watched = watch.Watch(db, notices.Notices(NOBODY), outlook.Outlook(db))
    ids = [making.job(db, owner, *names) for names in ("a", "bc", "def")]
    making.finish(db, making.claim(db))
    rows = [db.read(jobs.job, id_, owner) for id_ in ids]
    reads, real = [], results.first
    monkeypatch.setattr(results, "first", lambda c, some, **how: reads.append(len(some)) or real(c, some, **how))

    async def wanting():
        return await asyncio.gather(*(watched.results(row) for row in [*rows, rows[0]]))

    answers = asyncio.run(wanting())
    assert [[row.name for row in answer] for answer in answers] == [["a"], ["b", "c"], ["d", "e"], ["a"]]
    assert reads == [3]


def test_a_notice_that_is_lost_is_made_good_however_much_is_told_of_others(db, owner):
    """All who wait are looked at every now and then, not only when nobody else is told of."""
    watched = watch.Watch(db, notices.Notices(NOBODY), outlook.Outlook(db))
    other, mine = (making.job(db, owner, name) for name in "ab")

    async def telling():
        while True:
            watched._look_at({other})
            await asyncio.sleep(watch.UNSURE_SECONDS / 10)

    async def watching():
        others = asyncio.ensure_future(until_ended(watched, other))
        waiting = asyncio.ensure_future(until_ended(watched, mine))
        await asyncio.sleep(0.5)
        noise = asyncio.ensure_future(telling())
        (claim,) = [claim for claim in making.claim(db) if claim.job_id == mine]
        making.finish(db, [claim])
        assert (await asyncio.wait_for(waiting, 20))[-1] == (1, True)
        noise.cancel()
        others.cancel()

    asyncio.run(watching())
