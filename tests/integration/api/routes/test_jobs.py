import base64
import hashlib
import json
import os
import urllib.parse
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db.queries import expired_leases, invariants, jobs, retries
from core.maintenance import reaper, retention
from tests.support import factories
from tests.support.api_client import assert_problem, fetch_all_pages, next_page_url

JOB = {
    "id", "status", "counts", "sealed", "name", "owner", "model", "priority", "metadata", "status_url",
    "results_url", "events_url",
    "images_url", "retry_url", "retry_of", "webhook", "seal_url", "cancel_url", "created_at", "sealed_at", "started_at",
    "finished_at", "scan", "scan_url",
    "expires_at", "queue_position", "estimated_finish", "earliest_finish", "latest_finish",
}  # fmt: skip
RESULT = {
    "id", "image", "job_id", "owner", "status", "label", "confidence", "scores", "error", "model", "cached", "timings",
    "finished_at", "image_id", "custom_id", "environment", "worker", "familiarity", "review"}  # fmt: skip
NOWHERE = "00000000-0000-7000-8000-000000000000"


def stored(app, data):
    """Return whether the bytes are in the blob store."""
    path = app.extensions["sortbelt"].blob_store.path(hashlib.sha256(data).hexdigest())
    return path.exists() and path.read_bytes() == data


def test_a_submission_returns_a_job(app, submit_client):
    """202 with Location, Retry-After, and the whole job."""
    files = [("a.png", factories.make_image(1)), ("b.jpg", factories.make_image(2, "JPEG"))]
    response = submit_client.post(
        "/v1/jobs", images=files, data={"metadata": '{"who": "me"}', "priority": "interactive"}
    )
    assert response.status_code == 202, response.text
    job = response.json
    assert set(job) == JOB
    assert job["counts"] == dict.fromkeys(["running", "done", "failed", "cancelled", "expired"], 0) | {
        "total": 2,
        "queued": 2,
    }
    assert (job["status"], job["sealed"], job["model"], job["priority"]) == (
        "queued",
        True,
        factories.MODEL,
        "interactive",
    )
    assert job["metadata"] == {"who": "me"}
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Location"] == job["status_url"] == f"http://localhost/v1/jobs/{job['id']}"
    assert submit_client.get(job["status_url"]).json == job
    assert all(stored(app, data) for _, data in files)


def test_all_urls_of_a_job_work(submit_client):
    """Each URL in a job accepts its method."""
    job = submit_client.post("/v1/jobs", images=[("a.png", factories.make_image())]).json
    assert submit_client.get(job["results_url"]).json == {"results": []}
    assert submit_client.post(job["images_url"], images=[("a.png", factories.make_image())]).status_code == 202
    assert submit_client.post(job["seal_url"]).status_code == 200
    assert submit_client.post(job["cancel_url"]).json["status"] == "cancelled"


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "image/whatever", None])
def test_a_raw_body_is_a_job_of_one_image(app, db, submit_client, content_type):
    """The content decides the format, not the Content-Type."""
    data = factories.make_image(7)
    response = submit_client.post("/v1/jobs?name=lunch.png", data=data, content_type=content_type)
    assert response.status_code == 202, response.text
    assert response.json["counts"]["total"] == 1
    assert response.json["priority"] == "interactive"
    assert set(factories.image_states(db)) == {"lunch.png"}
    assert stored(app, data)


def test_a_raw_body_has_its_options_in_the_url(submit_client):
    """Model and priority are in the query."""
    response = submit_client.post(f"/v1/jobs?model={factories.MODEL}&priority=bulk", data=factories.make_image())
    assert (response.status_code, response.json["priority"]) == (202, "bulk")


def test_an_invalid_image_fails_alone(app, db, submit_client):
    """Each has its error code; the valid ones are queued; nothing invalid is stored."""
    bad = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"I am a text.", "unsupported_format"),
        "cut.png": (factories.make_image()[:20], "undecodable"),
        "huge.png": (factories.make_image(size=(65_536, 1)), "too_large"),
        "heavy.bmp": (factories.make_image(image_format="BMP", size=(200, 200)), "too_large"),
    }
    files = [("good.png", factories.make_image()), *((name, data) for name, (data, _) in bad.items())]
    response = submit_client.post("/v1/jobs", images=files)
    assert response.status_code == 202, response.text
    assert (response.json["counts"]["queued"], response.json["counts"]["failed"]) == (1, 5)
    results = submit_client.get(response.json["results_url"]).json["results"]
    codes = {result["image"]: result["error"]["code"] for result in results}
    assert codes["cut.png"] in ("undecodable", "unsupported_format")
    assert codes | {"cut.png": "undecodable"} == {name: code for name, (_, code) in bad.items()}
    assert all(result["error"]["detail"].endswith(".") and result["status"] == "failed" for result in results)
    assert not any(stored(app, data) for data, _ in bad.values())
    assert [claim.name for claim in factories.claim_images(db)] == ["good.png"]


def test_a_job_of_invalid_images_has_failed(submit_client):
    """At once."""
    job = submit_client.post("/v1/jobs", images=[("a", b"x"), ("b", b"y")]).json
    assert (job["status"], job["counts"]["failed"]) == ("failed", 2)
    assert job["finished_at"] is not None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "empty"),
        (b"I am a text.", 415, "unsupported_format"),
        (factories.make_image(size=(65_536, 1)), 422, "too_large"),
        (factories.make_image(image_format="BMP", size=(200, 200)), 422, "too_large"),
        (b"GIF89a" + b"\0" * 100, 422, "undecodable"),
    ],
)
def test_an_invalid_raw_body_is_rejected(db, submit_client, body, status, code):
    """The response is the error, and no job is created."""
    response = submit_client.post("/v1/jobs", data=body, content_type="image/jpeg")
    if code == "undecodable" and response.json.get("code") == "unsupported_format":
        status, code = 415, "unsupported_format"  # Pillow may not recognise so broken a header
    assert_problem(response, status, code)
    assert factories.image_states(db) == {}


def test_the_same_key_and_content_return_the_same_job(db, submit_client):
    """A retried POST is answered like the first one."""
    files, headers = [("a.png", factories.make_image())], {"Idempotency-Key": "k-1"}
    answers = [submit_client.post("/v1/jobs", images=files, headers=headers) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(factories.image_states(db)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"images": [("b.png", factories.make_image())]},
        {"images": [("a.png", factories.make_image(1))]},
        {"images": [("a.png", factories.make_image()), ("b.png", factories.make_image(1))]},
        {"images": [("a.png", factories.make_image())], "data": {"priority": "interactive"}},
        {"images": [("a.png", factories.make_image())], "data": {"metadata": '{"x": 1}'}},
    ],
)
def test_the_same_key_with_other_content_is_rejected(submit_client, change):
    """Other bytes, another name, another sequence."""
    headers = {"Idempotency-Key": "k-1"}
    submit_client.post("/v1/jobs", images=[("a.png", factories.make_image())], headers=headers)
    detail = assert_problem(submit_client.post("/v1/jobs", headers=headers, **change), 422, "idempotency_mismatch")
    assert "Idempotency-Key" in detail


def test_idempotency_keys_belong_to_an_api_key(submit_client, other_client):
    """Another API key may use the same text."""
    options = {"images": [("a.png", factories.make_image())], "headers": {"Idempotency-Key": "k"}}
    assert submit_client.post("/v1/jobs", **options).json["id"] != other_client.post("/v1/jobs", **options).json["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_idempotency_key_has_a_length(submit_client, key):
    """Neither empty nor too long."""
    response = submit_client.post(
        "/v1/jobs", images=[("a.png", factories.make_image())], headers={"Idempotency-Key": key}
    )
    assert_problem(response, 422, "bad_parameter")


def test_an_open_job_grows_until_it_is_sealed(db, submit_client):
    """Open, add images in pieces (one twice), seal."""
    response = submit_client.post("/v1/jobs", json={"open": True, "metadata": {"folder": "x"}})
    assert (response.status_code, response.json["sealed"], response.json["counts"]["total"]) == (202, False, 0)
    job = response.json
    for start in (0, 2, 2):
        files = [(f"{n}.png", factories.make_image(n)) for n in range(start, start + 3)]
        response = submit_client.post(job["images_url"], images=files)
        assert response.status_code == 202, response.text
        assert response.headers["Location"] == job["status_url"]
    assert response.json["counts"]["total"] == 5
    factories.complete_claims(db, factories.claim_images(db))
    assert submit_client.get(job["status_url"]).json["status"] == "running"
    sealed = submit_client.post(job["seal_url"])
    assert (sealed.status_code, sealed.json["status"], sealed.json["sealed"]) == (200, "done", True)
    assert "Retry-After" not in sealed.headers
    assert submit_client.post(job["seal_url"]).json == sealed.json
    assert submit_client.post(job["images_url"], images=[("0.png", factories.make_image())]).status_code == 202
    assert_problem(
        submit_client.post(job["images_url"], images=[("new.png", factories.make_image())]), 409, "job_sealed"
    )


def test_images_added_to_an_open_job_may_be_invalid(submit_client):
    """As in a closed job, each fails alone."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    counts = submit_client.post(job["images_url"], images=[("a", factories.make_image()), ("b", b"x")]).json["counts"]
    assert (counts["queued"], counts["failed"], counts["total"]) == (1, 1, 2)


def test_a_response_waits_until_a_large_job_is_cancelled(db, submit_client, monkeypatch):
    """Up to some seconds; then the workers cancel the rest."""
    monkeypatch.setattr(jobs, "ENDED_PER_STEP", 1)
    job = submit_client.post("/v1/jobs", images=[(f"{n}", factories.make_image(n)) for n in range(4)]).json
    response = submit_client.post(job["cancel_url"]).json
    assert (response["status"], response["counts"]["cancelled"]) == ("cancelled", 4)


def test_cancelling_keeps_results(db, submit_client):
    """Finished images stay, and repeating changes nothing."""
    job = submit_client.post("/v1/jobs", images=[(f"{n}", factories.make_image(n)) for n in range(3)]).json
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    response = submit_client.post(job["cancel_url"])
    assert response.status_code == 200
    assert (response.json["status"], response.json["counts"]["done"], response.json["counts"]["cancelled"]) == (
        "cancelled",
        1,
        2,
    )
    assert submit_client.post(job["cancel_url"]).json == response.json
    results = submit_client.get(job["results_url"]).json["results"]
    assert sorted(result["status"] for result in results) == ["cancelled", "cancelled", "done"]


def test_an_unfinished_job_has_retry_after(db, submit_client, finished_job):
    """And a finished one has not."""
    assert "Retry-After" not in submit_client.get(finished_job["status_url"]).headers
    waiting = submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).json
    assert int(submit_client.get(waiting["status_url"]).headers["Retry-After"]) >= 1


def test_results_have_all_fields(submit_client, finished_job):
    """Labels with their model, errors with their code."""
    response = submit_client.get(finished_job["results_url"])
    results = {result["image"]: result for result in response.json["results"]}
    assert set(results) == {"a.png", "b.png", "bad.txt"}
    assert all(set(result) == RESULT and result["job_id"] == finished_job["id"] for result in results.values())
    good, bad = results["a.png"], results["bad.txt"]
    assert (good["status"], good["label"], good["confidence"], good["error"]) == ("done", "sushi", 0.9, None)
    assert good["scores"] == {"sushi": 0.9, "sandwich": 0.1}
    assert good["model"] == {"name": factories.MODEL, "version": "1", "digest": "0" * 64}
    assert (bad["status"], bad["label"], bad["error"]["code"]) == ("failed", None, "unsupported_format")
    assert good["finished_at"].endswith("Z")
    assert "Link" not in response.headers


def test_pages_of_results_have_each_result_once(db, submit_client):
    """For every page size."""
    files = [(f"{n:02}", factories.make_image(n)) for n in range(11)]
    job = submit_client.post("/v1/jobs", images=files).json
    factories.complete_claims(db, factories.claim_images(db))
    for limit in (1, 3, 11, 1000):
        rows = fetch_all_pages(submit_client, f"{job['results_url']}?limit={limit}", "results")
        assert sorted(row["image"] for row in rows) == [f"{n:02}" for n in range(11)]


def test_results_are_in_the_order_of_the_images_while_the_job_runs(db, submit_client):
    """Whichever finishes first; reading after the end returns all."""
    job = submit_client.post("/v1/jobs", images=[(f"{n}", factories.make_image(n)) for n in range(3)]).json
    slow, quick, last = (factories.claim_images(db, limit=1) for _ in range(3))
    factories.complete_claims(db, quick)
    assert [row["image"] for row in submit_client.get(job["results_url"]).json["results"]] == ["1"]
    factories.complete_claims(db, last)
    factories.complete_claims(db, slow)
    assert [row["image"] for row in fetch_all_pages(submit_client, f"{job['results_url']}?limit=2", "results")] == [
        "0",
        "1",
        "2",
    ]


def test_pages_of_jobs_have_each_job_once(submit_client, other_client):
    """Newest first, the caller's own, also with a filter."""
    ids = [submit_client.post("/v1/jobs", images=[("a", factories.make_image(n))]).json["id"] for n in range(5)]
    other_client.post("/v1/jobs", images=[("a", factories.make_image())])
    for query in ("limit=2", "limit=5", "limit=1&status=queued"):
        assert [job["id"] for job in fetch_all_pages(submit_client, f"/v1/jobs?{query}", "jobs")] == ids[::-1]
    assert fetch_all_pages(submit_client, "/v1/jobs?status=done", "jobs") == []


def test_jobs_are_filtered_by_owner_model_and_time(submit_client, other_client, admin_client, db):
    """With pages; a submitter cannot list jobs of others; malformed timestamps and cursors are named."""
    mine = [submit_client.post("/v1/jobs", images=[("a", factories.make_image(n))]).json["id"] for n in range(3)]
    theirs = other_client.post("/v1/jobs", images=[("a", factories.make_image())]).json

    def ids(api_client, query):
        return [job["id"] for job in fetch_all_pages(api_client, f"/v1/jobs?limit=2&{query}", "jobs")]

    assert ids(admin_client, f"owner={submit_client.id}") == mine[::-1]
    assert ids(submit_client, f"owner={other_client.id}") == mine[::-1]
    assert ids(admin_client, f"model={factories.MODEL}&since=2020-01-01") == [theirs["id"], *mine[::-1]]
    assert ids(admin_client, "until=2020-01-01") == ids(admin_client, "since=2999-01-01") == []
    assert ids(admin_client, "owner=other&since=24h") == [theirs["id"]]
    for bad in ("since=tomorrow", "until=x", "owner=", "name=", f"cursor={mine[0]}", "cursor=1_2", "model=%00"):
        assert_problem(submit_client.get(f"/v1/jobs?{bad}"), 422, "bad_parameter")
    for unknown in ("model=other", "owner=x", f"model={factories.MODEL}@1"):
        assert_problem(admin_client.get(f"/v1/jobs?{unknown}"), 422, "bad_parameter")


def test_a_job_has_a_name_by_which_it_is_found(submit_client, other_client):
    """From its form, its JSON or its URL; it can be changed and removed by its owner only, and a retry keeps it."""
    files = [("a", factories.make_image())]
    form = submit_client.post("/v1/jobs", images=files, data={"job_name": "Caf\u0065\u0301 1"}).json
    assert (form["name"], form["owner"]) == ("Caf\u00e9 1", "me")
    opened = submit_client.post("/v1/jobs", json={"open": True, "job_name": "Caf\u00e9 2"}).json
    raw = submit_client.post("/v1/jobs?job_name=100%25&name=a.png", data=factories.make_image()).json
    assert (raw["name"], opened["name"]) == ("100%", "Caf\u00e9 2")

    def found(text):
        query = urllib.parse.urlencode({"name": text})
        return [job["id"] for job in fetch_all_pages(submit_client, f"/v1/jobs?limit=1&{query}", "jobs")]

    assert found("caf\u0065\u0301") == found("CAF") == [opened["id"], form["id"]]
    assert found("%") == [raw["id"]]
    url = raw["status_url"]
    etag = submit_client.get(url).headers["ETag"]
    response = submit_client.request("PATCH", url, json={"name": "lunch"})
    assert (response.status_code, response.json["name"]) == (200, "lunch")
    assert submit_client.get(url).headers["ETag"] == response.headers["ETag"] != etag
    assert submit_client.request("PATCH", url, json={"name": None}).json["name"] is None
    assert_problem(other_client.request("PATCH", url, json={"name": "mine"}), 404, "job_not_found")
    for bad in ({}, {"name": ""}, {"name": "x" * 256}, {"name": "a\nb"}, {"nam": "x"}):
        assert_problem(submit_client.request("PATCH", url, json=bad), 422, "bad_parameter")


def test_a_repeat_with_another_name_is_another_submission(submit_client):
    """Under one idempotency key, as with any other option."""
    headers = {"Idempotency-Key": "once"}
    assert submit_client.post("/v1/jobs", json={"open": True, "job_name": "a"}, headers=headers).status_code == 202
    response = submit_client.post("/v1/jobs", json={"open": True, "job_name": "b"}, headers=headers)
    assert_problem(response, 422, "idempotency_mismatch")


def test_an_admin_sees_all_jobs(submit_client, admin_client, finished_job):
    """And their results."""
    assert [job["id"] for job in admin_client.get("/v1/jobs").json["jobs"]] == [finished_job["id"]]
    assert admin_client.get(finished_job["status_url"]).json["id"] == finished_job["id"]
    assert len(admin_client.get(finished_job["results_url"]).json["results"]) == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/results"), ("POST", "/images"), ("POST", "/seal"), ("POST", "/cancel")],
)
def test_a_job_of_another_key_is_not_found(db, submit_client, other_client, method, path):
    """The same 404 on every route as for a missing job, and nothing changes."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    before = factories.get_job(db, job["id"])
    for id_ in (job["id"], NOWHERE):
        options = {"images": [("a", factories.make_image())]} if path == "/images" else {}
        assert_problem(other_client.request(method, f"/v1/jobs/{id_}{path}", **options), 404, "job_not_found")
    assert factories.get_job(db, job["id"]) == before


@pytest.mark.parametrize("path", ["", "/results"])
def test_a_malformed_id_is_not_found(submit_client, subtests, path):
    """404 for any text."""
    for id_ in ("x", "1", NOWHERE.replace("-", ""), NOWHERE[:-1], "A" * 5000, "%00", "%ff", "..%5c", "'"):
        with subtests.test(id_[:50]):
            assert_problem(submit_client.get(f"/v1/jobs/{id_}{path}"), 404, "job_not_found")


def test_an_id_in_capitals_is_not_found(submit_client):
    """A job has one URL."""
    job = submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).json
    assert_problem(submit_client.get(f"/v1/jobs/{job['id'].upper()}"), 404, "job_not_found")


def test_a_submission_without_images_is_rejected(db, submit_client):
    """An empty form, and forms with other parts only."""
    assert_problem(
        submit_client.post("/v1/jobs", data={}, content_type="multipart/form-data; boundary=x"), 422, "no_images"
    )
    assert_problem(
        submit_client.post("/v1/jobs", data={"priority": "bulk"}, content_type="multipart/form-data"), 422, "no_images"
    )
    nameless = submit_client.post("/v1/jobs", data={"images": "a text"}, content_type="multipart/form-data")
    assert "`images` has no file name" in assert_problem(nameless, 422, "no_images")
    raw = submit_client.post("/v1/jobs", data=factories.make_image(), content_type="application/x-www-form-urlencoded")
    described = assert_problem(raw, 422, "no_images")
    assert described.endswith(
        "or JSON with `Content-Type: application/json`; yours was application/x-www-form-urlencoded."
    )
    assert factories.image_states(db) == {}


def test_two_images_with_one_name_are_rejected(db, submit_client):
    """A name is unique in its job; the error names it."""
    files = [("a.png", factories.make_image(1)), ("b.png", factories.make_image(2)), ("a.png", factories.make_image(3))]
    assert "a.png" in assert_problem(submit_client.post("/v1/jobs", images=files), 422, "duplicate_name")
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    assert_problem(submit_client.post(job["images_url"], images=files), 422, "duplicate_name")
    assert factories.image_states(db) == {}


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # werkzeug's, where it stops in the middle
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("count", [1001, 1500])
def test_too_many_images_are_rejected(db, submit_client, count):
    """More than a thousand is 422 with advice, however many."""
    response = submit_client.post("/v1/jobs", images=[(f"{n}", b"x") for n in range(count)])
    assert "1,000" in assert_problem(response, 422, "too_many_images")
    assert factories.image_states(db) == {}


def test_a_thousand_images_are_accepted(submit_client):
    """That is the limit."""
    response = submit_client.post("/v1/jobs", images=[(f"{n}", b"x") for n in range(1000)])
    assert (response.status_code, response.json["counts"]["total"]) == (202, 1000)


NAMES = [
    "../../etc/passwd", "/etc/passwd", "a/b/c.jpg", "..", "C:\\x.jpg", "日本語 🍣.jpg", "x" * 1024, "%2e%2e%2f",
    "a;b=c",
    "' OR 1=1 --", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\u202egpj.exe", "a\u0301",
]  # fmt: skip


def test_a_name_is_never_a_path(db, submit_client, tmp_path):
    """Blobs are stored under their digest, and names are returned as they were sent."""
    data, ids = factories.make_image(3), []
    for name in NAMES:
        response = submit_client.post("/v1/jobs", data=data, query_string={"name": name}, content_type="image/png")
        assert response.status_code == 202, response.text
        ids.append(response.json["id"])
    factories.complete_claims(db, factories.claim_images(db))
    shown = [row["image"] for id_ in ids for row in submit_client.get(f"/v1/jobs/{id_}/results").json["results"]]
    assert shown == NAMES
    assert sorted(row["image"] for row in fetch_all_pages(submit_client, "/v1/results", "results")) == sorted(NAMES)
    files = {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    assert files == {hashlib.sha256(data).hexdigest()}


def test_names_in_a_form_are_not_changed(db, submit_client):
    """A path as a name stays a name."""
    names = ["../../etc/passwd", "/etc/passwd", "a/b/c.jpg", "日本語 🍣.jpg"]
    assert submit_client.post("/v1/jobs", images=[(name, factories.make_image()) for name in names]).status_code == 202
    assert set(factories.image_states(db)) == set(names)


BROKEN_NAMES = [b"a\x00b.png", b"a\x1b[31m.png", b"\xed\xa0\x80.png", b"\xff\xfe.png", b"a\x7f.png"]


def test_control_characters_and_broken_unicode_are_replaced_in_names(db, submit_client, subtests):
    """A name cannot control a terminal, end a string or break a database."""
    for raw in BROKEN_NAMES:
        quoted = "".join(f"%{byte:02x}" for byte in raw)
        with subtests.test("raw body", name=raw):
            response = submit_client.post(
                f"/v1/jobs?name={quoted}", data=factories.make_image(), content_type="image/png"
            )
            assert response.status_code == 202, response.text
        with subtests.test("form", name=raw):
            body = b'--B\r\nContent-Disposition: form-data; name="images"; filename="' + raw + b'"\r\n\r\n'
            body += factories.make_image() + b"\r\n--B--\r\n"
            response = submit_client.post("/v1/jobs", data=body, content_type="multipart/form-data; boundary=B")
            assert response.status_code in (202, 400, 422)
            assert response.json.get("code") != "no_images"  # there is one; it is its name that cannot be read
    for name in factories.image_states(db):
        assert name.isprintable()
        name.encode()


def test_a_name_has_a_length(db, submit_client):
    """Neither empty nor too long."""
    for name in ("", "x" * 1025, "x" * 5000):
        responses = [submit_client.post(f"/v1/jobs?name={name}", data=factories.make_image())]
        responses += [submit_client.post("/v1/jobs", images=[(name, factories.make_image())])] if name else []
        for response in responses:
            assert "1024" in assert_problem(response, 422, "bad_parameter").replace(",", "")
    assert factories.image_states(db) == {}


def test_a_name_has_a_length_in_bytes(db, submit_client):
    """As much as an index of PostgreSQL takes: in a form, in JSON, and beside a raw image."""
    data, name = factories.make_image(), factories.incompressible_name(3000)
    encoded = {"name": name, "data": base64.b64encode(data).decode()}
    responses = [
        submit_client.post("/v1/jobs", data=data, query_string={"name": name}, content_type="image/png"),
        submit_client.post("/v1/jobs", images=[(name, data)]),
        submit_client.post("/v1/jobs", json={"images": [encoded]}),
    ]
    for response in responses:
        assert "2,600 bytes" in assert_problem(response, 422, "bad_parameter")
    assert factories.image_states(db) == {}


FIELDS = [
    {"priority": "urgent"},
    {"priority": ""},
    {"priority": "0"},
    {"metadata": "no json"},
    {"metadata": ""},
    {"metadata": "[]"},
    {"metadata": "null"},
    {"metadata": '"text"'},
    {"metadata": "{" * 100_000},
    {"metadata": "[" * 100_000},
    {"metadata": '{"a":' * 40_000},
    {"metadata": '{"a": NaN}'},
    {"metadata": '{"a": 1e999}'},
    {"metadata": '{"a": ' + "9" * 5000 + "}"},
    {"metadata": json.dumps({"a": "x" * 16_384})},
    {"metadata": json.dumps({"a": "é" * 8_190}, ensure_ascii=False)},
    {"model": "a\x1bb"},
    {"model": "x" * 1025},
]


def test_a_malformed_field_is_named(db, submit_client, subtests):
    """422 with the name of the field."""
    for fields in FIELDS:
        with subtests.test(str(fields)[:60]):
            response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data=fields)
            assert next(iter(fields)) in assert_problem(response, 422, "bad_parameter")
    assert factories.image_states(db) == {}


def test_odd_characters_in_metadata_are_returned_or_rejected(submit_client, subtests):
    """PostgreSQL stores no NUL and no unpaired surrogate in JSON: that is 422, not 500."""
    for text in ("\0", "a\0b", "\ud800", "\udfff x", "\U0001f363", "\x1b", "\u2028"):
        for order in ({"k": text}, {text: "v"}, {"k": [{"deep": text}]}):
            with subtests.test(ascii(order)):
                fields = {"metadata": json.dumps(order)}
                response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data=fields)
                if response.status_code == 202:
                    assert response.json["metadata"] == order
                    assert submit_client.get(response.json["status_url"]).json["metadata"] == order
                else:
                    assert "metadata" in assert_problem(response, 422, "bad_parameter")


def test_an_unknown_model_is_rejected_with_the_known_ones(submit_client):
    """The message lists them."""
    detail = assert_problem(
        submit_client.post("/v1/jobs?model=pizza", data=factories.make_image()), 422, "unknown_model"
    )
    assert "pizza" in detail
    assert factories.MODEL in detail
    assert_problem(submit_client.post("/v1/jobs", json={"open": True, "model": "../x"}), 422, "unknown_model")


BODIES = ["", "{", "[]", "null", "1", '"x"', "{}", '{"open": false}', '{"open": 1}', '{"open": "true"}']
BODIES += ['{"open": true, "model": 1}', '{"open": true, "priority": 0}', '{"open": true, "priority": []}']
BODIES += ['{"open": true, "metadata": "x"}', '{"open": true, "metadata": [1]}', '{"open": true, "metadata": []}']
BODIES += ["[" * 100_000, '{"a":' * 40_000, '{"open": true, "metadata": {"a": NaN}}', "\ufeff{}"]


def test_a_malformed_json_body_is_rejected(submit_client, subtests):
    """JSON opens a job, or is an error."""
    for body in BODIES:
        with subtests.test(body[:60]):
            response = submit_client.post("/v1/jobs", data=body, content_type="application/json")
            assert_problem(response, 422, "bad_parameter")


def test_a_form_cannot_open_a_job(submit_client, subtests):
    """A form with `open=false` must not leave a job open for ever."""
    for value in ("false", "0", "no", ""):
        with subtests.test(value):
            response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data={"open": value})
            if response.status_code == 202:
                assert response.json["sealed"]
            else:
                assert_problem(response, 422, "bad_parameter")


LISTS = ["/v1/jobs", "/v1/jobs/{id}/results", "/v1/results"]


def test_a_malformed_limit_is_named(submit_client, finished_job, subtests):
    """With its range, 1 to 1000."""
    for path in LISTS:
        for limit in ("0", "-1", "1001", "x", "", "1e3", "%00", "9" * 5000):
            with subtests.test(path, limit=limit[:9]):
                detail = assert_problem(
                    submit_client.get(f"{path.format(id=finished_job['id'])}?limit={limit}"), 422, "bad_parameter"
                )
                assert "limit" in detail
                assert "1000" in detail.replace(",", "")


def test_a_malformed_cursor_is_rejected(submit_client, finished_job, subtests):
    """Neither a 500 nor silently the first page."""
    nines, quote, accent, thai = "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "JyBPUiAx", "w6k=", "4LmQ"
    for path in LISTS:
        for cursor in ("", "x", "%00", "====", "AAAA", "LTE=", "eA==", nines, quote, accent, thai):
            with subtests.test(path, cursor=cursor):
                assert_problem(
                    submit_client.get(f"{path.format(id=finished_job['id'])}?cursor={cursor}"), 422, "bad_parameter"
                )


def test_the_next_link_is_built_from_known_parameters(submit_client, finished_job, subtests):
    """Whatever is in the query, the link to the next page works."""
    odd = ["_external=1", "_scheme=x", "_anchor=a", "_method=POST", "endpoint=x", "job_id=x", "self=1", "values=1"]
    for path in (path.format(id=finished_job["id"]) for path in LISTS):
        for extra in odd:
            with subtests.test(path, extra=extra):
                response = submit_client.get(f"{path}?limit=1&{extra}")
                if response.status_code == 422:
                    assert_problem(response, 422, "bad_parameter")
                    continue
                assert response.status_code == 200, response.text
                following = next_page_url(response)
                if following is not None:
                    assert following.startswith(f"http://localhost{path}?")
                    assert submit_client.get(following).status_code == 200


def test_the_next_link_keeps_the_filters(submit_client, finished_job):
    """The second page is of the same query."""
    following = next_page_url(submit_client.get("/v1/results?status=done&limit=1&name=.png"))
    rows = submit_client.get(following).json["results"]
    assert [row["image"] for row in rows] == ["a.png"]
    assert "status=done" in following


def test_an_unknown_status_is_rejected(submit_client, finished_job):
    """A misspelt status must not look like an empty list."""
    assert_problem(submit_client.get("/v1/jobs?status=finished"), 422, "bad_parameter")
    assert_problem(submit_client.get("/v1/results?status=finished"), 422, "bad_parameter")


def test_a_job_is_accepted_after_its_blobs_are_stored(app, db, submit_client, tmp_path):
    """Without blobs no rows and no 202: 503 with Retry-After, without paths of the server."""
    (tmp_path / "blobs").write_text("a file where the folder should be")
    response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())])
    detail = assert_problem(response, 503, "blobs_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert str(tmp_path) not in detail
    assert factories.image_states(db) == {}
    (tmp_path / "blobs").unlink()
    assert submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).status_code == 202


def test_a_job_passes_through_its_states(db, submit_client):
    """Queued, running, done, with ascending timestamps and counts that sum to the total."""
    url = submit_client.post("/v1/jobs", images=[(f"{n}", factories.make_image(n)) for n in range(4)]).json[
        "status_url"
    ]
    observed = []
    for step in (
        lambda: None,
        lambda: factories.claim_images(db, limit=2),
        lambda: factories.complete_claims(db, factories.claim_images(db)),
    ):
        step()
        job = submit_client.get(url).json
        counts = dict(job["counts"])
        assert counts.pop("total") == sum(counts.values()) == 4
        observed.append(job["status"])
    factories.expire_leases(db)
    db.write(expired_leases.requeue, max_attempts=1)
    job = submit_client.get(url).json
    assert [*observed, job["status"]] == ["queued", "running", "running", "done"]
    times = [job["created_at"], job["sealed_at"], job["started_at"], job["finished_at"]]
    assert times == sorted(times)


def test_a_job_id_is_a_uuid_of_version_7(submit_client):
    """Opaque to clients, ascending for the database."""
    assert uuid.UUID(submit_client.post("/v1/jobs", json={"open": True}).json["id"]).version == 7


def test_a_failing_wakeup_does_not_delay_a_request(submit_client, app, db):
    """The row is the job: it is committed before the wake-up."""
    id_ = submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).json["id"]
    assert db.read(jobs.get, id_, submit_client.id).total == 1
    assert (
        db.read(lambda c: c.execute(sa.select(factories.IMAGES.c.sha256)).scalar())
        == hashlib.sha256(factories.make_image()).hexdigest()
    )


def test_a_job_has_its_queue_position_and_eta(app, db, submit_client):
    """From the recent throughput; Retry-After agrees, and all of it is null after the end."""
    first = submit_client.post("/v1/jobs", images=[(f"{n}", factories.make_image(n)) for n in range(20)]).json
    app.extensions["sortbelt"].eta_cache._refreshed_at = -1e9
    job = submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).json
    assert (job["queue_position"], job["estimated_finish"]) == (20, None)
    factories.complete_claims(db, factories.claim_images(db, limit=10))
    app.extensions["sortbelt"].eta_cache._refreshed_at = -1e9
    response = submit_client.get(job["status_url"])
    assert response.json["queue_position"] == 10
    estimated = response.json
    assert job["created_at"] < estimated["earliest_finish"] <= estimated["estimated_finish"]
    assert estimated["latest_finish"] is None or estimated["latest_finish"] >= estimated["estimated_finish"]
    assert 1 <= int(response.headers["Retry-After"]) <= 30
    factories.complete_claims(db, factories.claim_images(db))
    over = submit_client.get(first["status_url"]).json
    assert not any(over[name] for name in ("queue_position", "estimated_finish", "earliest_finish", "latest_finish"))


def test_an_unchanged_page_of_results_is_a_304(submit_client, finished_job):
    """By its ETag."""
    first = submit_client.get(finished_job["results_url"])
    again = submit_client.get(finished_job["results_url"], headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_failed_images_can_be_retried(db, submit_client):
    """As a new job with the same names; repeating returns the same job; images with a label are left out."""
    files = [(f"{n}.png", factories.make_image(n)) for n in range(4)] + [("text.txt", b"not an image")]
    job = submit_client.post("/v1/jobs", images=files, data={"metadata": '{"a": 1}', "job_name": "lunches"}).json
    assert_problem(submit_client.post(job["retry_url"]), 409, "job_not_over")
    factories.complete_claims(db, factories.claim_images(db, limit=2))
    factories.complete_claims(
        db, factories.claim_images(db), label=None, error_code="timed_out", error_detail="Too slow."
    )
    response = submit_client.post(job["retry_url"])
    assert response.status_code == 202, response.text
    again = response.json
    assert (again["retry_of"], again["counts"]["total"], again["metadata"]) == (job["id"], 2, {"a": 1})
    assert (again["name"], again["left_out"]) == ("lunches", [{"code": "unsupported_format", "images": 1}])
    repeat = submit_client.post(job["retry_url"]).json
    assert (repeat["id"], repeat["left_out"]) == (again["id"], again["left_out"])
    assert sorted(claim.name for claim in factories.claim_images(db)) == ["2.png", "3.png"]
    assert submit_client.get(job["status_url"]).json["counts"]["failed"] == 3


def test_a_response_waits_until_a_large_job_is_retried(db, submit_client, monkeypatch):
    """Up to some seconds; then the workers copy the rest."""
    monkeypatch.setattr(retries, "COPIED_PER_STEP", 1)
    job = submit_client.post("/v1/jobs", images=[(f"{n}.png", factories.make_image(n)) for n in range(4)]).json
    submit_client.post(job["cancel_url"])
    again = submit_client.post(job["retry_url"]).json
    assert (again["counts"]["queued"], again["counts"]["total"]) == (4, 4)
    assert again["sealed_at"] is not None


def test_a_job_whose_retry_was_deleted_can_be_retried_again(db, submit_client):
    job = submit_client.post("/v1/jobs", images=[("a.png", factories.make_image())]).json
    factories.complete_claims(
        db, factories.claim_images(db), label=None, error_code="timed_out", error_detail="Too slow."
    )
    first = submit_client.post(job["retry_url"]).json
    assert submit_client.request("DELETE", first["status_url"]).status_code == 200

    second = submit_client.post(job["retry_url"])

    assert second.status_code == 202, second.text
    assert second.json["id"] != first["id"]
    assert submit_client.post(job["retry_url"]).json["id"] == second.json["id"]
    assert [claim.name for claim in factories.claim_images(db)] == ["a.png"]


def test_a_job_without_failures_cannot_be_retried(db, submit_client):
    """409, and no empty job."""
    job = submit_client.post("/v1/jobs", images=[("a", factories.make_image()), ("b", b"not an image")]).json
    factories.complete_claims(db, factories.claim_images(db))
    assert "1 unsupported_format" in assert_problem(submit_client.post(job["retry_url"]), 409, "nothing_to_retry")


def test_a_job_of_another_key_cannot_be_retried(db, submit_client, other_client, read_client):
    """404 as everywhere; and a key of the role read is 403."""
    job = submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).json
    assert_problem(other_client.post(job["retry_url"]), 404, "job_not_found")
    assert_problem(read_client.post(job["retry_url"]), 403, "not_allowed")


def test_images_that_are_not_taken_before_the_deadline_expire(db, submit_client):
    """Images with a worker go on; the job ends with them, sealed, and can be retried."""
    files = [(f"{n}", factories.make_image(n)) for n in range(3)]
    job = submit_client.post("/v1/jobs", images=files, data={"expires_in": "3600"}).json
    assert job["expires_at"] > job["created_at"]
    taken = factories.claim_images(db, limit=1)
    reaper.reap(db, max_attempts=3)
    assert submit_client.get(job["status_url"]).json["counts"]["expired"] == 0
    past = sa.update(factories.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    reaper.reap(db, max_attempts=3)
    assert submit_client.get(job["status_url"]).json["counts"]["expired"] == 2
    factories.complete_claims(db, taken)
    over = submit_client.get(job["status_url"]).json
    assert (over["status"], over["counts"]["done"]) == ("done", 1)
    codes = [
        result["error"] and result["error"]["code"] for result in submit_client.get(job["results_url"]).json["results"]
    ]
    assert sorted(map(str, codes)) == ["None", "expired", "expired"]
    assert submit_client.post(job["retry_url"]).json["counts"]["total"] == 2


def test_an_open_job_is_sealed_at_its_deadline(db, submit_client):
    """A forgotten job does not stay open for ever."""
    job = submit_client.post("/v1/jobs", json={"open": True, "expires_in": 1}).json
    past = sa.update(factories.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    reaper.reap(db, max_attempts=3)
    over = submit_client.get(job["status_url"]).json
    assert over["sealed"]
    assert over["finished_at"] is not None


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "inf", "1e9"])
def test_a_deadline_is_a_number_of_seconds(submit_client, seconds):
    """Anything else is rejected with the name of the field."""
    response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data={"expires_in": seconds})
    assert "expires_in" in assert_problem(response, 422, "bad_parameter")


@pytest.mark.parametrize("seconds", [True, False, "x", [3600]])
def test_a_deadline_in_json_is_a_number_of_seconds(submit_client, seconds):
    """True is not 1."""
    response = submit_client.post("/v1/jobs", json={"open": True, "expires_in": seconds})
    assert "expires_in" in assert_problem(response, 422, "bad_parameter")


def test_a_purged_job_is_gone(app, db, submit_client):
    """410 everywhere, and its bytes with it, except those that another job has too."""
    parts = app.extensions["sortbelt"]
    old = submit_client.post("/v1/jobs", images=[("a", factories.make_image(1)), ("b", factories.make_image(2))]).json
    factories.complete_claims(db, factories.claim_images(db))
    past = sa.update(factories.JOBS).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    for path in Path(app.extensions["sortbelt"].settings.blob_store).glob("*/*"):
        os.utime(path, (0, 0))
    new = submit_client.post("/v1/jobs", images=[("a", factories.make_image(2))]).json
    assert retention.run_purge(db, parts.blob_store, days=30) == 1
    for path in ("", "/results", "/events"):
        assert_problem(submit_client.get(f"/v1/jobs/{old['id']}{path}"), 410, "job_purged")
    assert_problem(submit_client.post(old["retry_url"]), 410, "job_purged")
    assert [job["id"] for job in submit_client.get("/v1/jobs").json["jobs"]] == [new["id"]]
    assert not stored(app, factories.make_image(1))
    assert stored(app, factories.make_image(2))
    assert db.read(invariants.miscounted_jobs) == 0
    assert retention.run_purge(db, parts.blob_store, days=30) == 0
