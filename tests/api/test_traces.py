import logging
import re

import pytest

from jobs import errors, tracing
from tests import otlp
from tests.jobs import making

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def on(monkeypatch):
    """Tracing, switched on before the application is made; what it sends."""
    with otlp.listening() as made:
        for name, value in made.environ().items():
            monkeypatch.setenv(name, value)
        tracing.start_or_exit("tests", on=True)
        yield made
        tracing.close()


def spans(on):
    """The spans of requests: name → their attributes, without the ids of the requests."""
    tracing.close()
    kept = [span for span in on.spans if "http.route" in span.attributes]
    assert all(span.attributes.pop("sortbelt.request.id") for span in kept)
    return [(span.name, span.attributes) for span in kept]


def test_a_request_is_named_by_its_route_and_tells_of_its_job(on, me):
    job = me.post("/v1/jobs", images=[("lunch.png", making.picture(1))]).json
    me.get(f"/v1/jobs/{job['id']}?note=lunch.png")
    said = spans(on)
    assert [name for name, _ in said] == ["POST /v1/jobs", "GET /v1/jobs/{job_id}"]
    assert {about["sortbelt.job.id"] for _, about in said} == {job["id"]}
    assert b"lunch" not in on.raw


def test_what_a_path_makes_up_is_not_told(on, me, app):
    """Neither what stands where an id should, nor a path of no route, nor a method of nobody's."""
    me.get("/v1/jobs/lunch.png")
    me.get("/lunch.png")
    app.test_client().open("/v1/jobs", method="LUNCH")
    assert spans(on) == [
        ("GET /v1/jobs/{job_id}", about("GET", "/v1/jobs/{job_id}", 404)),
        ("GET none", about("GET", "none", 404)),
        ("_OTHER none", about("_OTHER", "none", 401)),
    ]
    assert not any(span.failed for span in on.spans)
    assert b"lunch" not in on.raw.lower()


def about(method, route, status):
    """The attributes of a request that speaks of no job."""
    return {"http.request.method": method, "http.route": route, "http.response.status_code": status}


def test_what_fails_on_our_side_is_a_failure_and_the_log_names_its_trace(on, me, app, monkeypatch, caplog):
    def away(*_, **__):
        raise errors.BlobsUnavailable("/data/blobs is full.")

    monkeypatch.setattr(type(app.extensions["sortbelt"].blobs), "put", away)
    with caplog.at_level(logging.ERROR):
        answer = me.post("/v1/jobs", images=[("lunch.png", making.picture(1))], headers={"traceparent": CALLER})
    tracing.close()
    (span,) = on.named("POST /v1/jobs")
    assert (answer.status_code, span.failed, span.attributes["error.type"]) == (503, True, "503")
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == f"request {answer.json['request_id']} (trace {span.trace}): /data/blobs is full."
    assert span.trace == CALLER.split("-")[1]
    assert b"/data/blobs" not in on.raw


def test_every_answer_tells_its_trace(on, me):
    """In `traceresponse`, as W3C has it; also who is refused."""
    for path in ("/v1/jobs", "/nowhere"):
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", me.get(path).headers["traceresponse"])
    given = me.get("/v1/jobs", headers={"traceparent": CALLER}).headers["traceresponse"]
    assert given.split("-")[1] == CALLER.split("-")[1]
    assert given.split("-")[2] != CALLER.split("-")[2]


def test_what_machines_ask_all_the_time_is_not_traced(on, me):
    for path in ("/livez", "/readyz", "/metrics"):
        assert "traceresponse" not in me.get(path).headers
    tracing.close()
    assert on.spans == []


def test_a_retry_belongs_to_the_trace_of_its_own_request(on, me, db):
    job = me.post("/v1/jobs", images=[("a.png", making.picture(1)), ("b.png", making.picture(2))]).json
    making.finish(db, making.claim(db), error_code="worker_lost", label=None, confidence=None, scores=None)
    answer = me.post(f"/v1/jobs/{job['id']}/retry", headers={"traceparent": CALLER})
    remembered = making.view(db, answer.json["id"]).traceparent
    assert answer.status_code == 202
    assert remembered == answer.headers["traceresponse"]
    assert making.view(db, job["id"]).traceparent != remembered


def test_switched_off_there_is_no_trace_of_it(me, db):
    answer = me.post("/v1/jobs", images=[("a.png", making.picture(1))], headers={"traceparent": CALLER})
    assert "traceresponse" not in answer.headers
    assert making.view(db, answer.json["id"]).traceparent is None
