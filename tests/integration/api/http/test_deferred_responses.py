"""Long polls and event streams, over real sockets and with work that is done meanwhile."""

import concurrent.futures
import http.client
import json
import threading
import time

import pytest
import sqlalchemy as sa

from api.http import server_sent_events
from core import enums
from core.db import database
from core.db.queries import api_keys, deletions
from tests.integration.api.conftest import run_api_server
from tests.support import factories, waiting


@pytest.fixture(scope="module")
def small_server(tmp_path_factory, redis_url, database_template):
    """A server with few threads and five event streams, three of one key, and its database."""
    folder = tmp_path_factory.mktemp("later")
    with run_api_server(folder, database_template, redis_url, API_THREADS="2", MAX_EVENT_STREAMS="5") as server:
        db = database.Database(f"sqlite:///{folder}/sortbelt.db")
        yield server, db
        db.close()


def submit(server, **headers):
    """Submit one image."""
    return server.request("POST", "/v1/jobs", factories.make_image(), Content_Type="image/png", **headers)


def finish_queued(db):
    """Finish the queued images, as soon as there are some."""
    waiting.wait_until(lambda: factories.complete_claims(db, factories.claim_images(db)))


def after(seconds, action, *arguments):
    """Call a function after some seconds."""
    timer = threading.Timer(seconds, action, arguments)
    timer.start()
    return timer


def test_a_submission_that_waits_returns_results(small_server):
    """Prefer: wait: 200, the job and its results in one response."""
    server, db = small_server
    work = after(0.5, finish_queued, db)
    status, headers, job = submit(server, Prefer="respond-async, wait=20")
    work.join()
    assert (status, headers["Preference-Applied"]) == (200, "wait=20")
    assert (job["status"], job["counts"]["done"]) == ("done", 1)
    assert [result["label"] for result in job["results"]] == ["sushi"]
    assert headers["X-Request-ID"]
    assert "Retry-After" not in headers


def test_a_submission_whose_wait_runs_out_is_a_202(small_server):
    """With Location, as without waiting."""
    server, db = small_server
    started = time.monotonic()
    status, headers, job = submit(server, Prefer="wait=1")
    assert 0.9 < time.monotonic() - started < 30
    assert (status, job["status"], headers["Location"]) == (202, "queued", job["status_url"])
    assert headers["Retry-After"]
    factories.complete_claims(db, factories.claim_images(db))


def test_a_retry_that_waits_says_what_it_leaves_out(small_server):
    """As one that does not wait: the fields of the response do not depend on `Prefer`."""
    server, db = small_server
    job = submit(server)[2]
    factories.complete_claims(db, factories.claim_images(db), label=None, error_code="undecodable")
    work = after(0.5, finish_queued, db)
    path = f"/v1/jobs/{job['id']}/retry"
    status, headers, retried = server.request("POST", path, Prefer="wait=20")
    work.join()
    assert (status, headers["Preference-Applied"], retried["left_out"]) == (200, "wait=20", [])
    assert [result["label"] for result in retried["results"]] == ["sushi"]


def test_a_rejected_image_is_not_waited_for(small_server):
    """Nor a submission whose `wait` is not a number."""
    server, db = small_server
    assert server.request("POST", "/v1/jobs", b"text", Content_Type="image/png", Prefer="wait=20")[0] == 415
    assert submit(server, Prefer="wait=long")[0] == 202
    factories.complete_claims(db, factories.claim_images(db))


def test_long_polling_waits_for_the_end(small_server):
    """`?wait=`: until the job has ended, or the time is over."""
    server, db = small_server
    job = submit(server)[2]
    path = f"/v1/jobs/{job['id']}"
    assert server.request("GET", f"{path}?wait=0.3")[2]["status"] == "queued"
    after(0.4, finish_queued, db)
    status, headers, body = server.request("GET", f"{path}?wait=20")
    assert (status, body["status"]) == (200, "done")
    assert "Retry-After" not in headers
    assert server.request("GET", f"{path}?wait=20")[2] == body
    assert server.request("GET", f"{path}?wait=31")[0] == 422


def test_a_job_that_is_deleted_meanwhile_is_a_410(small_server):
    """As for a request that does not wait; the events just end, and a reconnection gets a 410."""
    server, db = small_server
    job = submit(server)[2]
    path = f"/v1/jobs/{job['id']}"
    owner = db.read(lambda c: c.execute(sa.select(factories.JOBS.c.api_key_id)).scalars().first())
    held = factories.claim_images(db)  # so that the job does not just end
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        wait = pool.submit(server.request, "GET", f"{path}?wait=20")
        conditional = pool.submit(server.request, "GET", f"{path}?wait=20", If_None_Match='"other"')
        stream = pool.submit(read_events, server, path)
        time.sleep(1)
        db.write(deletions.delete_job, job["id"], owner, owner)
    assert conditional.result()[0] == 200
    status, headers, problem = wait.result()
    assert (status, problem["code"]) == (410, "job_purged")
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["request_id"] == headers["X-Request-ID"]
    plain = server.request("GET", path)[2]
    assert {**problem, "request_id": ""} == {**plain, "request_id": ""}
    assert "event: done" not in stream.result()
    assert server.request("GET", f"{path}/events")[0] == 410
    assert factories.complete_claims(db, held) >= 0


def test_a_submission_that_waits_and_is_deleted_meanwhile_is_a_410(small_server):
    """It returns no results of a job that is gone."""
    server, db = small_server

    def delete_newest():
        query = sa.select(factories.JOBS.c.id, factories.JOBS.c.api_key_id).order_by(factories.JOBS.c.id.desc())
        newest = db.read(lambda c: c.execute(query).first())
        db.write(deletions.delete_job, newest.id, newest.api_key_id, newest.api_key_id)

    work = after(0.7, delete_newest)
    status, _, problem = submit(server, Prefer="wait=20")
    work.join()
    assert (status, problem["code"]) == (410, "job_purged")


def read_events(server, path):
    """Return the text of an event stream, to its end."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=40)
    line.request("GET", f"{path}/events", headers={"Authorization": f"Bearer {server.key}"})
    text = line.getresponse().read().decode()
    line.close()
    return text


def test_an_unchanged_job_is_a_304(small_server):
    """With `wait`, until it has changed."""
    server, db = small_server
    job = submit(server)[2]
    path = f"/v1/jobs/{job['id']}"
    tag = server.request("GET", path)[1]["ETag"]
    assert server.request("GET", path, If_None_Match=tag)[0] == 304
    assert server.request("GET", f"{path}?wait=0.3", If_None_Match=tag)[0] == 304
    after(0.3, lambda: factories.claim_images(db))
    tags = f'"old", {tag.removeprefix("W/")}'  # compared weakly, and one by one
    status, headers, body = server.request("GET", f"{path}?wait=20", If_None_Match=tags)
    assert (status, body["status"]) == (200, "running")
    assert headers["ETag"] not in (None, tag)
    factories.expire_leases(db)


def test_waiting_takes_no_thread(small_server):
    """Forty clients wait on a server of two threads, and others are served; then all forty get their response."""
    server, db = small_server
    job = submit(server)[2]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(server.request, "GET", f"/v1/jobs/{job['id']}?wait=25") for _ in range(40)]
        time.sleep(1)
        started = time.monotonic()
        assert server.request("GET", "/v1/jobs")[0] == 200
        assert time.monotonic() - started < 20  # they wait for 25
        assert not any(item.done() for item in waiting)
        factories.complete_claims(db, factories.claim_images(db))
        assert {item.result()[2]["status"] for item in waiting} == {"done"}


@pytest.fixture
def open_event_stream(small_server):
    """Open event streams, and close them at the end: the connection and the response."""
    lines = []

    def open_(job_id, key=small_server[0].key, **headers):
        line = http.client.HTTPConnection("127.0.0.1", small_server[0].port, timeout=30)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Authorization"] = f"Bearer {key}"
        line.request("GET", f"/v1/jobs/{job_id}/events", None, headers)
        lines.append((line, line.getresponse()))
        return lines[-1]

    yield open_
    for line, response in lines:
        response.close()
        line.close()


def read_event(response):
    """Return the next event: its type, its id and its data."""
    lines = []
    while True:
        text = response.readline().decode().rstrip("\n")
        if text and not text.startswith(":"):
            lines.append(text.partition(": ")[::2])
        elif not text and any(name == "data" for name, _ in lines):
            fields = dict(lines)
            return fields["event"], fields["id"], json.loads(fields["data"])


def test_an_event_stream_follows_a_job_to_its_end(small_server, open_event_stream):
    """Progress events, the last event, and then the stream ends."""
    server, db = small_server
    job = submit(server)[2]
    _, response = open_event_stream(job["id"])
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    kind, id_, data = read_event(response)
    assert (kind, id_, data["status"]) == ("progress", "0", "queued")
    factories.complete_claims(db, factories.claim_images(db))
    while kind != "done":
        kind, id_, data = read_event(response)
    assert (id_, data["status"], data["counts"]["done"]) == (server_sent_events.END_EVENT_ID, "done", 1)
    assert response.read() == b""
    assert open_event_stream(job["id"], Last_Event_ID=id_)[1].status == 204


@pytest.mark.parametrize("event_id", ["0", "9" * 5000], ids=["usual", "long"])
def test_a_reconnecting_client_receives_only_new_events(small_server, open_event_stream, event_id):
    """By the id of the last event that it received, however many digits it has."""
    server, db = small_server
    job = submit(server)[2]
    _, response = open_event_stream(job["id"], Last_Event_ID=event_id)
    after(0.5, finish_queued, db)
    assert read_event(response)[:2] == ("done", server_sent_events.END_EVENT_ID)


def test_streams_are_limited_and_a_disconnect_frees_a_place(small_server, open_event_stream):
    """503 with Retry-After beyond the limit, of which one key has half; polling still works."""
    server, db = small_server
    job = submit(server)[2]
    lines = [open_event_stream(job["id"]) for _ in range(3)]
    for _, response in lines:
        read_event(response)
    _, refused = open_event_stream(job["id"])
    assert refused.status == 503
    assert refused.headers["Retry-After"]
    assert json.loads(refused.read())["code"] == "too_many_streams"
    assert server.request("GET", f"/v1/jobs/{job['id']}")[0] == 200
    another = api_keys.generate()
    db.write(api_keys.create, "another", enums.Role.ADMIN, another)
    theirs = [open_event_stream(job["id"], another)[1] for _ in range(2)]
    for response in theirs:
        read_event(response)
    assert open_event_stream(job["id"], another)[1].status == 503
    for response in theirs:
        response.close()
    lines[0][1].close()
    lines[0][0].close()
    waiting.wait_until(lambda: open_event_stream(job["id"])[1].status == 200)
    factories.complete_claims(db, factories.claim_images(db))


def test_an_idle_stream_sends_keepalives(monkeypatch):
    """A comment now and then, so that proxies keep the connection open."""
    import asyncio

    monkeypatch.setattr(server_sent_events, "KEEPALIVE_SECONDS", 0.05)

    class Quiet:
        eta_cache = None

        async def changes(self, *_):
            await asyncio.sleep(60)
            yield None

    async def values():
        events = server_sent_events.EventStream("job", "key", "http://x/", show_full_url=True, last_event_id="").events(
            Quiet()
        )
        observed = [await anext(events) for _ in range(3)]
        await events.aclose()
        return observed

    observed = asyncio.run(values())
    assert observed[1:] == [b": still here\n\n"] * 2


def test_events_of_another_key_s_job_are_not_found(small_server, open_event_stream):
    """404, before any stream begins."""
    assert open_event_stream("00000000-0000-7000-8000-000000000000")[1].status == 404
