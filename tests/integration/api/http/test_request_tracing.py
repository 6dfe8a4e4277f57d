"""Traces of requests."""

import logging
import re

from core import errors
from core.tracing import tracer
from tests.support import factories

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def spans(on):
    """Return the spans of requests: their attributes by name, without request ids."""
    tracer.close()
    kept = [span for span in on.spans if "http.route" in span.attributes]
    assert all(span.attributes.pop("sortbelt.request.id") for span in kept)
    return [(span.name, span.attributes) for span in kept]


def test_a_request_span_has_its_route_and_its_job(enabled_tracing, submit_client):
    job = submit_client.post("/v1/jobs", images=[("lunch.png", factories.make_image(1))]).json
    submit_client.get(f"/v1/jobs/{job['id']}?note=lunch.png")
    described = spans(enabled_tracing)
    assert [name for name, _ in described] == ["POST /v1/jobs", "GET /v1/jobs/{job_id}"]
    assert {about["sortbelt.job.id"] for _, about in described} == {job["id"]}
    assert b"lunch" not in enabled_tracing.raw_body


def test_made_up_paths_are_not_recorded(enabled_tracing, submit_client, app):
    """Neither a malformed id, nor a path without a route, nor an unknown method."""
    submit_client.get("/v1/jobs/lunch.png")
    submit_client.get("/lunch.png")
    app.test_client().open("/v1/jobs", method="LUNCH")
    assert spans(enabled_tracing) == [
        ("GET /v1/jobs/{job_id}", about("GET", "/v1/jobs/{job_id}", 404)),
        ("GET none", about("GET", "none", 404)),
        ("_OTHER none", about("_OTHER", "none", 401)),
    ]
    assert not any(span.failed for span in enabled_tracing.spans)
    assert b"lunch" not in enabled_tracing.raw_body.lower()


def about(method, route, status):
    """Return the attributes of a request without a job."""
    return {"http.request.method": method, "http.route": route, "http.response.status_code": status}


def test_a_server_error_fails_its_span_and_the_log_has_its_trace(
    enabled_tracing, submit_client, app, monkeypatch, caplog
):
    def away(*_, **__):
        raise errors.BlobsUnavailable("/data/blobs is full.")

    monkeypatch.setattr(type(app.extensions["sortbelt"].blob_store), "put", away)
    with caplog.at_level(logging.ERROR):
        answer = submit_client.post(
            "/v1/jobs", images=[("lunch.png", factories.make_image(1))], headers={"traceparent": CALLER}
        )
    tracer.close()
    (span,) = enabled_tracing.wait_for_spans("POST /v1/jobs")
    assert (answer.status_code, span.failed, span.attributes["error.type"]) == (503, True, "503")
    (described,) = (record.getMessage() for record in caplog.records)
    assert described == f"request {answer.json['request_id']} (trace {span.trace_id}): /data/blobs is full."
    assert span.trace_id == CALLER.split("-")[1]
    assert b"/data/blobs" not in enabled_tracing.raw_body


def test_every_response_has_its_trace(enabled_tracing, submit_client):
    """In `traceresponse` (W3C); also rejected ones."""
    for path in ("/v1/jobs", "/nowhere"):
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", submit_client.get(path).headers["traceresponse"])
    trace = submit_client.get("/v1/jobs", headers={"traceparent": CALLER}).headers["traceresponse"]
    assert trace.split("-")[1] == CALLER.split("-")[1]
    assert trace.split("-")[2] != CALLER.split("-")[2]


def test_what_machines_ask_all_the_time_is_not_traced(enabled_tracing, submit_client):
    for path in ("/livez", "/readyz", "/metrics"):
        assert "traceresponse" not in submit_client.get(path).headers
    tracer.close()
    assert enabled_tracing.spans == []


def test_a_retry_belongs_to_the_trace_of_its_own_request(enabled_tracing, submit_client, db):
    job = submit_client.post(
        "/v1/jobs", images=[("a.png", factories.make_image(1)), ("b.png", factories.make_image(2))]
    ).json
    factories.complete_claims(
        db, factories.claim_images(db), error_code="worker_lost", label=None, confidence=None, scores=None
    )
    answer = submit_client.post(f"/v1/jobs/{job['id']}/retry", headers={"traceparent": CALLER})
    remembered = factories.get_job(db, answer.json["id"]).traceparent
    assert answer.status_code == 202
    assert remembered == answer.headers["traceresponse"]
    assert factories.get_job(db, job["id"]).traceparent != remembered


def test_without_tracing_there_are_no_headers_or_spans(submit_client, db):
    answer = submit_client.post(
        "/v1/jobs", images=[("a.png", factories.make_image(1))], headers={"traceparent": CALLER}
    )
    assert "traceresponse" not in answer.headers
    assert factories.get_job(db, answer.json["id"]).traceparent is None
