import contextlib
import hashlib
import io
import sqlite3
import time

import pytest
from PIL import Image

from tests import otlp, receiver
from tests.e2e.conftest import until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NAME = "a-name-that-tells-too-much.png"
SERVER, CLIENT = 2, 3


@pytest.fixture
def traces(monkeypatch):
    """A receiver of traces, to which all that is started from now on sends its own."""
    with otlp.listening() as made:
        for name, value in made.environ().items():
            monkeypatch.setenv(name, value)
        yield made


def picture(number):
    """A small picture; another number is another one."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (number % 256, number // 256, 120)).save(file, "PNG")
    return file.getvalue()


def submit(client, number, name=NAME, **more):
    """Hand in a picture."""
    return client.post("/v1/jobs", files={"images": (name, picture(number))}, **more)


def ended(client, job):
    """Wait for a job's end."""
    until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["status"] == "done", 60, "the job is done")


def test_a_job_is_seen_from_the_caller_s_request_to_the_webhook(start, traces):
    """The request within its caller's trace; the batch and the webhook linked to it; and nothing that is private."""
    data = picture(7)
    with receiver.listening() as hook:
        stack = start(webhook_allow="127.0.0.0/8")
        with stack.client() as client:
            said = {"webhook": hook.url, "metadata": '{"trip": "to-nowhere"}'}
            answer = submit(client, 7, data=said, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
            job = answer.json()
            ended(client, job)
        (told,) = hook.wait(1)

    (request,) = [one for one in traces.named("POST /v1/jobs") if one.service == "sortbelt-api"]
    assert (request.trace, request.parent, request.kind) == (TRACE, CALLER, SERVER)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/jobs",
        "http.response.status_code": 202,
        "sortbelt.request.id": answer.headers["X-Request-ID"],
        "sortbelt.job.id": job["id"],
    }
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{request.id}-01"
    steps = traces.within(request)
    assert steps[0] == "receive"
    assert [one for one in steps if one in {"blobs.put", "transaction take", "bell"}] == [
        "blobs.put",
        "transaction take",
        "bell",
    ]

    (batch,) = traces.named("batch")
    assert (batch.service, batch.parent) == ("sortbelt-worker", "")
    assert batch.trace != TRACE
    assert batch.links == [(TRACE, request.id, {"sortbelt.job.id": job["id"]})]
    assert traces.within(batch) == ["claim", "decode", "forward", "commit"]
    assert {name: value for name, value in batch.attributes.items() if name != "sortbelt.worker"} == {
        "sortbelt.batch.size": 1,
        "sortbelt.batch.jobs": 1,
        "sortbelt.batch.failed": 0,
        "sortbelt.batch.written": 1,
        "sortbelt.batch.reason": "drain",
        "sortbelt.model": "sushi-or-sandwich",
        "sortbelt.model.version": stack.results(job["id"])[0]["model"]["version"],
    }

    (webhook,) = traces.named("webhook")
    assert (webhook.service, webhook.kind, webhook.links) == ("sortbelt-courier", CLIENT, batch.links)
    assert webhook.attributes["http.response.status_code"] == 204
    assert told.headers["traceparent"].startswith(f"00-{webhook.trace}-{webhook.id}-")

    assert not any(span.failed or span.events for span in traces.spans)
    private = [NAME, "to-nowhere", stack.key, hook.url, hashlib.sha256(data).hexdigest(), str(stack.data_dir)]
    assert [one for one in private if one.encode() in traces.raw] == []


def test_without_tracing_a_job_remembers_no_trace(start):
    """Off, as it is unless somebody wants it: neither an answer's header nor a row has anything of it."""
    stack = start()
    with stack.client() as client:
        answer = submit(client, 8, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
    assert "traceresponse" not in answer.headers
    with contextlib.closing(sqlite3.connect(stack.data_dir / "sortbelt.db")) as db:
        assert db.execute("SELECT traceparent FROM jobs").fetchall() == [(None,)]


def test_nobody_waits_for_a_receiver_that_hangs_refuses_or_is_gone(start, traces):
    """Requests are as quick as ever, pictures are classified, and the end comes as soon."""
    stack = start()
    slowest = 0.0
    numbers = iter(range(1000))

    def work():
        nonlocal slowest
        with stack.client() as client:
            for _ in range(5):
                began = time.monotonic()
                job = submit(client, next(numbers)).raise_for_status().json()
                slowest = max(slowest, time.monotonic() - began)
                ended(client, job)

    def said(sentence):
        logs = [(stack.data_dir / "logs" / name).read_text() for name in ("api.log", "worker1.log")]
        return all(sentence in log for log in logs)

    traces.goes_on.clear()
    work()
    traces.until(lambda: said("Traces do not arrive"), "both have given up a receiver that hangs")
    traces.goes_on.set()
    traces.status = 503
    work()
    traces.status = 200
    work()
    traces.until(lambda: said("Traces arrive again"), "both are heard")
    traces.shutdown()
    traces.server_close()
    work()
    began = time.monotonic()
    stack.process.terminate()
    stack.process.wait(40)

    assert slowest < 2.5  # a try to send takes 3 s
    assert time.monotonic() - began < 15
    logs = {file.name: file.read_text() for file in (stack.data_dir / "logs").glob("*.log")}
    for name in ("api.log", "worker1.log"):
        assert 1 <= logs[name].count("Traces do not arrive") <= 4, logs[name]
        assert "Traceback" not in logs[name]
