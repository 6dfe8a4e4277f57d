import asyncio
import inspect

import pytest

from sortbelt import errors
from sortbelt.client import async_client, sync_client
from sortbelt.client.async_client import AsyncClient
from tests.support import fake_api


def run(server, work):
    """A coroutine with a client of the fake server."""

    async def whole():
        async with AsyncClient(server.url, fake_api.KEY) as client:
            return await work(client)

    return asyncio.run(whole())


def public(kind):
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sync_client.Client, async_client.AsyncClient),
        (sync_client.Job, async_client.AsyncJob),
        (sync_client.Results, async_client.AsyncResults),
    ],
)
def test_both_clients_can_do_the_same_with_the_same_arguments(one, other):
    mine, theirs = public(one), public(other)

    assert mine.keys() - {"export", "archive_images"} == theirs.keys()
    for name, method in theirs.items():
        assert list(inspect.signature(method).parameters.values()) == list(
            inspect.signature(mine[name]).parameters.values()
        ), name
    assert inspect.signature(one).parameters.keys() == inspect.signature(other).parameters.keys()


def test_images_go_in_and_results_come_out(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    server.max_page_size = 1

    async def work(client):
        job = await client.submit([tmp_path / "a.jpg", ("broken", b"2")], metadata={"trip": 7})
        ended = await job.wait()
        return ended, [result async for result in ended.results()]

    job, results = run(server, work)

    assert (job.status, job.counts.done, job.counts.failed, job.metadata) == ("done", 1, 1, {"trip": 7})
    assert {r.image: r.label for r in results} == {"a.jpg": "sushi", "broken": None}


def test_many_jobs_are_waited_for_at_once(server):
    server.polls_until_done = 3

    async def work(client):
        jobs = await asyncio.gather(*(client.submit([(str(n), b"x")], wait=True) for n in range(20)))
        return [job.status for job in jobs]

    assert run(server, work) == ["done"] * 20


def test_a_busy_server_is_asked_again(server):
    server.faults = [(429, {"Retry-After": "0.1"}), "drop", 502]

    async def work(client):
        return await client.open_job()

    assert not run(server, work).sealed
    assert len({headers["Idempotency-Key"] for _, _, headers in server.requests}) == 1


def test_errors_are_those_of_the_other_client(server):
    async def work(client):
        await client.job("none")

    with pytest.raises(errors.NotFound) as caught:
        run(server, work)
    assert (caught.value.code, caught.value.request_id) == ("job_not_found", "req-1")


def test_waiting_ends_when_its_time_is_over(server):
    server.polls_until_done = 10_000

    async def work(client):
        await (await client.submit([("a", b"1")])).wait(timeout=0.2)

    with pytest.raises(errors.WaitTimeout):
        run(server, work)


def test_many_images_travel_in_several_requests_and_are_one_job(server):
    async def work(client):
        return await client.submit([(str(n), b"1") for n in range(100)])

    assert run(server, work).counts.total == 100
    assert len(server.jobs) == 1


def test_a_job_is_filled_by_the_server(server):
    server.sources = {"camera": {"2026/a.jpg": b"1", "2025/b.jpg": b"2"}}

    async def work(client):
        job = await client.scan((await client.open_job()).id, "camera", "2026", exclude=["thumbs"])
        return [one.name for one in await client.sources()], await job.wait()

    names, job = run(server, work)
    assert names == ["camera"]
    assert (job.status, job.scan.status, job.scan.found, job.counts.done) == ("done", "done", 1, 1)
    assert server.upload_counts == {}


def test_jobs_can_be_watched_and_keys_listed(server):
    server.polls_until_done = 2

    async def work(client):
        job = await client.submit([("a", b"1")])
        seen = [one.status async for one in client.watch(job.id)]
        await client.create_key("camera", "read")
        return seen, [key.name async for key in client.keys()]  # noqa: SIM118 (no mapping)

    assert run(server, work) == (["queued", "done"], ["camera"])
