"""Waiting for jobs and following them, over real sockets and with work that is done meanwhile."""

import concurrent.futures
import http.client
import json
import threading
import time

import pytest

from api import later
from jobs import database, tables
from jobs.store import keys
from tests.api.conftest import serve
from tests.jobs import making


@pytest.fixture(scope="module")
def place(tmp_path_factory, redis_url, template):
    """A server with few threads and few streams, three for a key, and its database."""
    folder = tmp_path_factory.mktemp("later")
    with serve(folder, template, redis_url, API_THREADS="2", MAX_EVENT_STREAMS="5") as server:
        db = database.Database(f"sqlite:///{folder}/sortbelt.db")
        yield server, db
        db.close()


def ask(server, method, path, body=None, **headers):
    """Ask; status, headers and JSON."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=40)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    line.request(method, path, body, {"Authorization": f"Bearer {server.key}", **headers})
    response = line.getresponse()
    data = response.read()
    line.close()
    return response.status, response.headers, json.loads(data) if data else None


def submit(server, **headers):
    """One picture."""
    return ask(server, "POST", "/v1/jobs", making.picture(), Content_Type="image/png", **headers)


def work_off(db):
    """Finish what waits, as soon as something does."""
    while not making.finish(db, making.claim(db)):
        time.sleep(0.05)


def after(seconds, action, *given):
    """Do something a little later."""
    timer = threading.Timer(seconds, action, given)
    timer.start()
    return timer


def test_a_job_that_is_waited_for_comes_with_its_results(place):
    """Prefer: wait: 200, the job and its results in one answer."""
    server, db = place
    work = after(0.5, work_off, db)
    status, headers, job = submit(server, Prefer="respond-async, wait=20")
    work.join()
    assert (status, headers["Preference-Applied"]) == (200, "wait=20")
    assert (job["status"], job["counts"]["done"]) == ("done", 1)
    assert [result["label"] for result in job["results"]] == ["sushi"]
    assert headers["X-Request-ID"]
    assert "Retry-After" not in headers


def test_a_job_that_is_not_done_in_time_is_a_202_as_without(place):
    """With where to look."""
    server, db = place
    started = time.monotonic()
    status, headers, job = submit(server, Prefer="wait=1")
    assert 0.9 < time.monotonic() - started < 10
    assert (status, job["status"], headers["Location"]) == (202, "queued", job["status_url"])
    assert headers["Retry-After"]
    making.finish(db, making.claim(db))


def test_a_picture_that_is_refused_is_not_waited_for(place):
    """Nor an order whose wait is no number."""
    server, db = place
    assert ask(server, "POST", "/v1/jobs", b"text", Content_Type="image/png", Prefer="wait=20")[0] == 415
    assert submit(server, Prefer="wait=long")[0] == 202
    making.finish(db, making.claim(db))


def test_polling_may_wait_for_the_end(place):
    """?wait: until it has ended, or the time is over."""
    server, db = place
    job = submit(server)[2]
    path = f"/v1/jobs/{job['id']}"
    assert ask(server, "GET", f"{path}?wait=0.3")[2]["status"] == "queued"
    after(0.4, work_off, db)
    status, headers, body = ask(server, "GET", f"{path}?wait=20")
    assert (status, body["status"]) == (200, "done")
    assert "Retry-After" not in headers
    assert ask(server, "GET", f"{path}?wait=20")[2] == body
    assert ask(server, "GET", f"{path}?wait=31")[0] == 422


def test_what_is_known_is_not_sent_again(place):
    """ETag and 304; with a wait, until it is no longer so."""
    server, db = place
    job = submit(server)[2]
    path = f"/v1/jobs/{job['id']}"
    tag = ask(server, "GET", path)[1]["ETag"]
    assert ask(server, "GET", path, If_None_Match=tag)[0] == 304
    assert ask(server, "GET", f"{path}?wait=0.3", If_None_Match=tag)[0] == 304
    after(0.3, lambda: making.claim(db))
    status, headers, body = ask(server, "GET", f"{path}?wait=20", If_None_Match=tag)
    assert (status, body["status"]) == (200, "running")
    assert headers["ETag"] not in (None, tag)
    making.let_leases_end(db)


def test_waiting_holds_no_thread(place):
    """Forty wait on a server of two threads, and others are served; then all forty get their answer."""
    server, db = place
    job = submit(server)[2]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(ask, server, "GET", f"/v1/jobs/{job['id']}?wait=25") for _ in range(40)]
        time.sleep(1)
        started = time.monotonic()
        assert ask(server, "GET", "/v1/jobs")[0] == 200
        assert time.monotonic() - started < 5
        assert not any(one.done() for one in waiting)
        making.finish(db, making.claim(db))
        assert {one.result()[2]["status"] for one in waiting} == {"done"}


@pytest.fixture
def follow(place):
    """Opens streams of events, and closes them at the end: the connection and the response."""
    lines = []

    def open_(job_id, key=place[0].key, **headers):
        line = http.client.HTTPConnection("127.0.0.1", place[0].port, timeout=30)
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
    """The next event: its kind, its id, and its data."""
    lines = []
    while True:
        text = response.readline().decode().rstrip("\n")
        if text and not text.startswith(":"):
            lines.append(text.partition(": ")[::2])
        elif not text and any(name == "data" for name, _ in lines):
            fields = dict(lines)
            return fields["event"], fields["id"], json.loads(fields["data"])


def test_a_job_can_be_followed_to_its_end(place, follow):
    """Progress as it comes, the end, and then the stream is over."""
    server, db = place
    job = submit(server)[2]
    _, response = follow(job["id"])
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    kind, id_, data = read_event(response)
    assert (kind, id_, data["status"]) == ("progress", "0", "queued")
    making.finish(db, making.claim(db))
    while kind != "done":
        kind, id_, data = read_event(response)
    assert (id_, data["status"], data["counts"]["done"]) == (later.END, "done", 1)
    assert response.read() == b""
    assert follow(job["id"], Last_Event_ID=id_)[1].status == 204


def test_who_reconnects_is_told_only_what_is_new(place, follow):
    """By the id of the last event that they saw."""
    server, db = place
    job = submit(server)[2]
    _, response = follow(job["id"], Last_Event_ID="0")
    after(0.5, work_off, db)
    assert read_event(response)[:2] == ("done", later.END)


def test_streams_have_a_limit_and_a_vanished_client_gives_its_place_back(place, follow):
    """503 with Retry-After beyond it, which is half of all for one key; polling goes on."""
    server, db = place
    job = submit(server)[2]
    lines = [follow(job["id"]) for _ in range(3)]
    for _, response in lines:
        read_event(response)
    _, refused = follow(job["id"])
    assert refused.status == 503
    assert refused.headers["Retry-After"]
    assert json.loads(refused.read())["code"] == "too_many_streams"
    assert ask(server, "GET", f"/v1/jobs/{job['id']}")[0] == 200
    another = keys.make()
    db.write(keys.create, "another", tables.Role.ADMIN, another)
    theirs = [follow(job["id"], another)[1] for _ in range(2)]
    for response in theirs:
        read_event(response)
    assert follow(job["id"], another)[1].status == 503
    for response in theirs:
        response.close()
    lines[0][1].close()
    lines[0][0].close()
    deadline = time.monotonic() + 20
    while follow(job["id"])[1].status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    making.finish(db, making.claim(db))


def test_an_idle_stream_shows_life(monkeypatch):
    """A comment now and then, so that nobody on the way takes it for dead."""
    import asyncio

    monkeypatch.setattr(later, "BEAT_SECONDS", 0.05)

    class Quiet:
        outlook = None

        async def rows(self, *_):
            await asyncio.sleep(60)
            yield None

    async def some():
        events = later.Events("job", "key", "http://x/", whole=True, known="").events(Quiet())
        seen = [await anext(events) for _ in range(3)]
        await events.aclose()
        return seen

    seen = asyncio.run(some())
    assert seen[1:] == [b": still here\n\n"] * 2


def test_the_events_of_another_s_job_are_not_there(place, follow):
    """404, before any stream begins."""
    assert follow("00000000-0000-7000-8000-000000000000")[1].status == 404
