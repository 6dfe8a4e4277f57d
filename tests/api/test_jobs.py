import hashlib
import json
import os
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs import purge, rescue
from jobs.store import invariants, jobs, work
from tests.api.asking import next_page, problem, walk
from tests.jobs import making

JOB = {
    "id", "status", "counts", "sealed", "model", "priority", "metadata", "status_url", "results_url", "events_url",
    "images_url", "retry_url", "retry_of", "webhook", "seal_url", "cancel_url", "created_at", "sealed_at", "started_at",
    "finished_at", "scan", "scan_url",
    "expires_at", "queue_position", "estimated_finish", "earliest_finish", "latest_finish",
}  # fmt: skip
RESULT = {
    "id", "image", "job_id", "status", "label", "confidence", "scores", "error", "model", "cached", "timings",
    "finished_at", "image_id", "custom_id", "environment", "worker"}  # fmt: skip
NOWHERE = "00000000-0000-7000-8000-000000000000"


def stored(app, data):
    """Whether the bytes are among the blobs."""
    path = app.extensions["sortbelt"].blobs.path(hashlib.sha256(data).hexdigest())
    return path.exists() and path.read_bytes() == data


def test_pictures_go_in_and_a_job_comes_back(app, me):
    """202, where to look, when to look again, and the whole job."""
    files = [("a.png", making.picture(1)), ("b.jpg", making.picture(2, "JPEG"))]
    response = me.post("/v1/jobs", images=files, data={"metadata": '{"who": "me"}', "priority": "interactive"})
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
        making.MODEL,
        "interactive",
    )
    assert job["metadata"] == {"who": "me"}
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Location"] == job["status_url"] == f"http://localhost/v1/jobs/{job['id']}"
    assert me.get(job["status_url"]).json == job
    assert all(stored(app, data) for _, data in files)


def test_all_urls_of_a_job_lead_somewhere(me):
    """Each URL in a job answers its method."""
    job = me.post("/v1/jobs", images=[("a.png", making.picture())]).json
    assert me.get(job["results_url"]).json == {"results": []}
    assert me.post(job["images_url"], images=[("a.png", making.picture())]).status_code == 202
    assert me.post(job["seal_url"]).status_code == 200
    assert me.post(job["cancel_url"]).json["status"] == "cancelled"


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "image/whatever", None])
def test_one_raw_body_is_a_job_of_one(app, db, me, content_type):
    """The content decides what a picture is, not what the sender calls it."""
    data = making.picture(7)
    response = me.post("/v1/jobs?name=lunch.png", data=data, content_type=content_type)
    assert response.status_code == 202, response.text
    assert response.json["counts"]["total"] == 1
    assert response.json["priority"] == "interactive"
    assert set(making.images(db)) == {"lunch.png"}
    assert stored(app, data)


def test_a_raw_body_takes_its_order_from_the_parameters(me):
    """Model and priority are in the query."""
    response = me.post(f"/v1/jobs?model={making.MODEL}&priority=bulk", data=making.picture())
    assert (response.status_code, response.json["priority"]) == (202, "bulk")


def test_one_bad_picture_among_good_ones_fails_alone(app, db, me):
    """Each bad one has its code; the good ones wait for the worker; nothing bad is stored."""
    bad = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"I am a text.", "unsupported_format"),
        "cut.png": (making.picture()[:20], "undecodable"),
        "huge.png": (making.picture(size=(16_385, 1)), "too_large"),
        "heavy.bmp": (making.picture(form="BMP", size=(200, 200)), "too_large"),
    }
    files = [("good.png", making.picture()), *((name, data) for name, (data, _) in bad.items())]
    response = me.post("/v1/jobs", images=files)
    assert response.status_code == 202, response.text
    assert (response.json["counts"]["queued"], response.json["counts"]["failed"]) == (1, 5)
    results = me.get(response.json["results_url"]).json["results"]
    codes = {result["image"]: result["error"]["code"] for result in results}
    assert codes["cut.png"] in ("undecodable", "unsupported_format")
    assert codes | {"cut.png": "undecodable"} == {name: code for name, (_, code) in bad.items()}
    assert all(result["error"]["detail"].endswith(".") and result["status"] == "failed" for result in results)
    assert not any(stored(app, data) for data, _ in bad.values())
    assert [claim.name for claim in making.claim(db)] == ["good.png"]


def test_bad_pictures_alone_make_a_failed_job(me):
    """No picture good: the job says so at once."""
    job = me.post("/v1/jobs", images=[("a", b"x"), ("b", b"y")]).json
    assert (job["status"], job["counts"]["failed"]) == ("failed", 2)
    assert job["finished_at"] is not None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "empty"),
        (b"I am a text.", 415, "unsupported_format"),
        (making.picture(size=(16_385, 1)), 422, "too_large"),
        (making.picture(form="BMP", size=(200, 200)), 422, "too_large"),
        (b"GIF89a" + b"\0" * 100, 422, "undecodable"),
    ],
)
def test_a_raw_body_that_is_no_good_picture_is_refused(db, me, body, status, code):
    """One picture alone: the answer is the error, and no job is made."""
    response = me.post("/v1/jobs", data=body, content_type="image/jpeg")
    if code == "undecodable" and response.json.get("code") == "unsupported_format":
        status, code = 415, "unsupported_format"  # Pillow may not recognise so broken a header
    problem(response, status, code)
    assert making.images(db) == {}


def test_the_same_key_and_content_give_the_same_job_again(db, me):
    """A retried POST is answered like the first."""
    files, headers = [("a.png", making.picture())], {"Idempotency-Key": "k-1"}
    answers = [me.post("/v1/jobs", images=files, headers=headers) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(making.images(db)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"images": [("b.png", making.picture())]},
        {"images": [("a.png", making.picture(1))]},
        {"images": [("a.png", making.picture()), ("b.png", making.picture(1))]},
        {"images": [("a.png", making.picture())], "data": {"priority": "interactive"}},
        {"images": [("a.png", making.picture())], "data": {"metadata": '{"x": 1}'}},
    ],
)
def test_the_same_key_with_other_content_is_refused(me, change):
    """Other bytes, another name, another order: all of them are other content."""
    headers = {"Idempotency-Key": "k-1"}
    me.post("/v1/jobs", images=[("a.png", making.picture())], headers=headers)
    detail = problem(me.post("/v1/jobs", headers=headers, **change), 422, "idempotency_mismatch")
    assert "Idempotency-Key" in detail


def test_keys_of_different_people_do_not_meet(me, other):
    """My key for repeats is mine."""
    options = {"images": [("a.png", making.picture())], "headers": {"Idempotency-Key": "k"}}
    assert me.post("/v1/jobs", **options).json["id"] != other.post("/v1/jobs", **options).json["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_idempotency_key_has_a_size(me, key):
    """Neither empty nor endless."""
    response = me.post("/v1/jobs", images=[("a.png", making.picture())], headers={"Idempotency-Key": key})
    problem(response, 422, "bad_parameter")


def test_an_open_job_grows_until_it_is_sealed(db, me):
    """A folder: open, fill in pieces (one twice), seal."""
    response = me.post("/v1/jobs", json={"open": True, "metadata": {"folder": "x"}})
    assert (response.status_code, response.json["sealed"], response.json["counts"]["total"]) == (202, False, 0)
    job = response.json
    for start in (0, 2, 2):
        files = [(f"{n}.png", making.picture(n)) for n in range(start, start + 3)]
        response = me.post(job["images_url"], images=files)
        assert response.status_code == 202, response.text
        assert response.headers["Location"] == job["status_url"]
    assert response.json["counts"]["total"] == 5
    making.finish(db, making.claim(db))
    assert me.get(job["status_url"]).json["status"] == "running"
    sealed = me.post(job["seal_url"])
    assert (sealed.status_code, sealed.json["status"], sealed.json["sealed"]) == (200, "done", True)
    assert "Retry-After" not in sealed.headers
    assert me.post(job["seal_url"]).json == sealed.json
    assert me.post(job["images_url"], images=[("0.png", making.picture())]).status_code == 202
    problem(me.post(job["images_url"], images=[("new.png", making.picture())]), 409, "job_sealed")


def test_a_piece_of_an_open_job_may_hold_bad_pictures(me):
    """As in a closed one, each fails alone."""
    job = me.post("/v1/jobs", json={"open": True}).json
    counts = me.post(job["images_url"], images=[("a", making.picture()), ("b", b"x")]).json["counts"]
    assert (counts["queued"], counts["failed"], counts["total"]) == (1, 1, 2)


def test_cancelling_keeps_results(db, me):
    """What is done stays, and again changes nothing."""
    job = me.post("/v1/jobs", images=[(f"{n}", making.picture(n)) for n in range(3)]).json
    making.finish(db, making.claim(db, limit=1))
    response = me.post(job["cancel_url"])
    assert response.status_code == 200
    assert (response.json["status"], response.json["counts"]["done"], response.json["counts"]["cancelled"]) == (
        "cancelled",
        1,
        2,
    )
    assert me.post(job["cancel_url"]).json == response.json
    results = me.get(job["results_url"]).json["results"]
    assert sorted(result["status"] for result in results) == ["cancelled", "cancelled", "done"]


def test_a_job_that_is_not_over_says_when_to_look_again(db, me, done):
    """Retry-After while there is something to wait for, and not after."""
    assert "Retry-After" not in me.get(done["status_url"]).headers
    waiting = me.post("/v1/jobs", images=[("a", making.picture())]).json
    assert int(me.get(waiting["status_url"]).headers["Retry-After"]) >= 1


def test_results_of_a_job_have_everything(me, done):
    """Labels with their model, errors with their code."""
    response = me.get(done["results_url"])
    results = {result["image"]: result for result in response.json["results"]}
    assert set(results) == {"a.png", "b.png", "bad.txt"}
    assert all(set(result) == RESULT and result["job_id"] == done["id"] for result in results.values())
    good, bad = results["a.png"], results["bad.txt"]
    assert (good["status"], good["label"], good["confidence"], good["error"]) == ("done", "sushi", 0.9, None)
    assert good["scores"] == {"sushi": 0.9, "sandwich": 0.1}
    assert good["model"] == {"name": making.MODEL, "version": "1", "digest": "0" * 64}
    assert (bad["status"], bad["label"], bad["error"]["code"]) == ("failed", None, "unsupported_format")
    assert good["finished_at"].endswith("Z")
    assert "Link" not in response.headers


def test_pages_of_results_meet_each_once(db, me):
    """Following the links to the end gives every result, whatever the size of the page."""
    files = [(f"{n:02}", making.picture(n)) for n in range(11)]
    job = me.post("/v1/jobs", images=files).json
    making.finish(db, making.claim(db))
    for limit in (1, 3, 11, 1000):
        rows = walk(me, f"{job['results_url']}?limit={limit}", "results")
        assert sorted(row["image"] for row in rows) == [f"{n:02}" for n in range(11)]


def test_results_are_in_the_order_of_the_pictures_also_while_the_job_runs(db, me):
    """Whatever ended first; whoever reads after the end has all."""
    job = me.post("/v1/jobs", images=[(f"{n}", making.picture(n)) for n in range(3)]).json
    slow, quick, last = (making.claim(db, limit=1) for _ in range(3))
    making.finish(db, quick)
    assert [row["image"] for row in me.get(job["results_url"]).json["results"]] == ["1"]
    making.finish(db, last)
    making.finish(db, slow)
    assert [row["image"] for row in walk(me, f"{job['results_url']}?limit=2", "results")] == ["0", "1", "2"]


def test_pages_of_jobs_meet_each_once(me, other):
    """Newest first, mine alone, also with a filter along."""
    ids = [me.post("/v1/jobs", images=[("a", making.picture(n))]).json["id"] for n in range(5)]
    other.post("/v1/jobs", images=[("a", making.picture())])
    for query in ("limit=2", "limit=5", "limit=1&status=queued"):
        assert [job["id"] for job in walk(me, f"/v1/jobs?{query}", "jobs")] == ids[::-1]
    assert walk(me, "/v1/jobs?status=done", "jobs") == []


def test_jobs_are_found_by_owner_model_and_time(me, other, admin, db):
    """By the page too; who is no admin asks for others' jobs in vain; what is no moment or cursor is named."""
    mine = [me.post("/v1/jobs", images=[("a", making.picture(n))]).json["id"] for n in range(3)]
    theirs = other.post("/v1/jobs", images=[("a", making.picture())]).json

    def ids(person, query):
        return [job["id"] for job in walk(person, f"/v1/jobs?limit=2&{query}", "jobs")]

    assert ids(admin, f"owner={me.id}") == mine[::-1]
    assert ids(me, f"owner={other.id}") == mine[::-1]
    assert ids(admin, f"model={making.MODEL}&since=2020-01-01") == [theirs["id"], *mine[::-1]]
    assert ids(admin, "model=other") == ids(admin, "until=2020-01-01") == ids(admin, "since=2999-01-01") == []
    for bad in ("since=yesterday", "until=x", "owner=x", f"cursor={mine[0]}", "cursor=1_2", "model=%00"):
        problem(me.get(f"/v1/jobs?{bad}"), 422, "bad_parameter")


def test_an_admin_sees_the_jobs_of_all(me, admin, done):
    """And their results."""
    assert [job["id"] for job in admin.get("/v1/jobs").json["jobs"]] == [done["id"]]
    assert admin.get(done["status_url"]).json["id"] == done["id"]
    assert len(admin.get(done["results_url"]).json["results"]) == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/results"), ("POST", "/images"), ("POST", "/seal"), ("POST", "/cancel")],
)
def test_the_job_of_another_does_not_exist(db, me, other, method, path):
    """On every route the same 404 as for no job at all, and nothing changes."""
    job = me.post("/v1/jobs", json={"open": True}).json
    before = making.view(db, job["id"])
    for id_ in (job["id"], NOWHERE):
        options = {"images": [("a", making.picture())]} if path == "/images" else {}
        problem(other.ask(method, f"/v1/jobs/{id_}{path}", **options), 404, "job_not_found")
    assert making.view(db, job["id"]) == before


@pytest.mark.parametrize("path", ["", "/results"])
def test_a_malformed_id_is_no_job(me, subtests, path):
    """404, whatever it looks like."""
    for id_ in ("x", "1", NOWHERE.replace("-", ""), NOWHERE[:-1], "A" * 5000, "%00", "%ff", "..%5c", "'"):
        with subtests.test(id_[:50]):
            problem(me.get(f"/v1/jobs/{id_}{path}"), 404, "job_not_found")


def test_an_id_in_capitals_is_no_other_job(me):
    """One job has one address."""
    job = me.post("/v1/jobs", images=[("a", making.picture())]).json
    problem(me.get(f"/v1/jobs/{job['id'].upper()}"), 404, "job_not_found")


def test_without_pictures_there_is_no_job(db, me):
    """An empty form, and forms with everything but pictures."""
    problem(me.post("/v1/jobs", data={}, content_type="multipart/form-data; boundary=x"), 422, "no_images")
    problem(me.post("/v1/jobs", data={"priority": "bulk"}, content_type="multipart/form-data"), 422, "no_images")
    nameless = me.post("/v1/jobs", data={"images": "a text"}, content_type="multipart/form-data")
    assert "`images` has no file name" in problem(nameless, 422, "no_images")
    raw = me.post("/v1/jobs", data=making.picture(), content_type="application/x-www-form-urlencoded")
    said = problem(raw, 422, "no_images")
    assert said.endswith("or JSON with `Content-Type: application/json`; yours was application/x-www-form-urlencoded.")
    assert making.images(db) == {}


def test_two_pictures_of_one_name_are_refused(db, me):
    """A name is unique in its job; the error says which."""
    files = [("a.png", making.picture(1)), ("b.png", making.picture(2)), ("a.png", making.picture(3))]
    assert "a.png" in problem(me.post("/v1/jobs", images=files), 422, "duplicate_name")
    job = me.post("/v1/jobs", json={"open": True}).json
    problem(me.post(job["images_url"], images=files), 422, "duplicate_name")
    assert making.images(db) == {}


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # werkzeug's, where it stops in the middle
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("count", [1001, 1500])
def test_too_many_pictures_are_refused(db, me, count):
    """More than a thousand at a time is 422, and says what to do, however many more."""
    response = me.post("/v1/jobs", images=[(f"{n}", b"x") for n in range(count)])
    assert "1,000" in problem(response, 422, "too_many_images")
    assert making.images(db) == {}


def test_a_thousand_pictures_are_taken(me):
    """The limit itself is fine."""
    response = me.post("/v1/jobs", images=[(f"{n}", b"x") for n in range(1000)])
    assert (response.status_code, response.json["counts"]["total"]) == (202, 1000)


NAMES = [
    "../../etc/passwd", "/etc/passwd", "a/b/c.jpg", "..", "C:\\x.jpg", "日本語 🍣.jpg", "x" * 1024, "%2e%2e%2f",
    "a;b=c",
    "' OR 1=1 --", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\u202egpj.exe", "a\u0301",
]  # fmt: skip


def test_a_name_is_only_a_name(db, me, tmp_path):
    """Whatever a picture is called, its bytes lie under their digest, and its name comes back as it was."""
    data, ids = making.picture(3), []
    for name in NAMES:
        response = me.post("/v1/jobs", data=data, query_string={"name": name}, content_type="image/png")
        assert response.status_code == 202, response.text
        ids.append(response.json["id"])
    making.finish(db, making.claim(db))
    shown = [row["image"] for id_ in ids for row in me.get(f"/v1/jobs/{id_}/results").json["results"]]
    assert shown == NAMES
    assert sorted(row["image"] for row in walk(me, "/v1/results", "results")) == sorted(NAMES)
    files = {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    assert files == {hashlib.sha256(data).hexdigest()}


def test_names_of_a_form_are_taken_as_they_are(db, me):
    """A path as the name of a part stays a path, and leads nowhere."""
    names = ["../../etc/passwd", "/etc/passwd", "a/b/c.jpg", "日本語 🍣.jpg"]
    assert me.post("/v1/jobs", images=[(name, making.picture()) for name in names]).status_code == 202
    assert set(making.images(db)) == set(names)


BROKEN_NAMES = [b"a\x00b.png", b"a\x1b[31m.png", b"\xed\xa0\x80.png", b"\xff\xfe.png", b"a\x7f.png"]


def test_control_characters_and_broken_unicode_are_taken_out_of_names(db, me, subtests):
    """No name moves a terminal, ends a string or breaks a database."""
    for raw in BROKEN_NAMES:
        quoted = "".join(f"%{byte:02x}" for byte in raw)
        with subtests.test("raw body", name=raw):
            response = me.post(f"/v1/jobs?name={quoted}", data=making.picture(), content_type="image/png")
            assert response.status_code == 202, response.text
        with subtests.test("form", name=raw):
            body = b'--B\r\nContent-Disposition: form-data; name="images"; filename="' + raw + b'"\r\n\r\n'
            body += making.picture() + b"\r\n--B--\r\n"
            response = me.post("/v1/jobs", data=body, content_type="multipart/form-data; boundary=B")
            assert response.status_code in (202, 400, 422)
            assert response.json.get("code") != "no_images"  # there is one; it is its name that cannot be read
    for name in making.images(db):
        assert name.isprintable()
        name.encode()


def test_a_name_has_a_size(db, me):
    """Neither empty nor endless: one clear sentence."""
    for name in ("", "x" * 1025, "x" * 5000):
        responses = [me.post(f"/v1/jobs?name={name}", data=making.picture())]
        responses += [me.post("/v1/jobs", images=[(name, making.picture())])] if name else []
        for response in responses:
            assert "1024" in problem(response, 422, "bad_parameter").replace(",", "")
    assert making.images(db) == {}


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


def test_a_malformed_field_is_named(db, me, subtests):
    """422, with the name of the field."""
    for fields in FIELDS:
        with subtests.test(str(fields)[:60]):
            response = me.post("/v1/jobs", images=[("a", making.picture())], data=fields)
            assert next(iter(fields)) in problem(response, 422, "bad_parameter")
    assert making.images(db) == {}


def test_odd_characters_in_metadata_come_back_or_are_refused(me, subtests):
    """PostgreSQL keeps no NUL and no half character in JSON: then that is said, not a 500."""
    for text in ("\0", "a\0b", "\ud800", "\udfff x", "\U0001f363", "\x1b", "\u2028"):
        for order in ({"k": text}, {text: "v"}, {"k": [{"deep": text}]}):
            with subtests.test(ascii(order)):
                fields = {"metadata": json.dumps(order)}
                response = me.post("/v1/jobs", images=[("a", making.picture())], data=fields)
                if response.status_code == 202:
                    assert response.json["metadata"] == order
                    assert me.get(response.json["status_url"]).json["metadata"] == order
                else:
                    assert "metadata" in problem(response, 422, "bad_parameter")


def test_an_unknown_model_is_refused_with_the_known_one(me):
    """The sentence says which there is."""
    detail = problem(me.post("/v1/jobs?model=pizza", data=making.picture()), 422, "unknown_model")
    assert "pizza" in detail
    assert making.MODEL in detail
    problem(me.post("/v1/jobs", json={"open": True, "model": "../x"}), 422, "unknown_model")


BODIES = ["", "{", "[]", "null", "1", '"x"', "{}", '{"open": false}', '{"open": 1}', '{"open": "true"}']
BODIES += ['{"open": true, "model": 1}', '{"open": true, "priority": 0}', '{"open": true, "priority": []}']
BODIES += ['{"open": true, "metadata": "x"}', '{"open": true, "metadata": [1]}', '{"open": true, "metadata": []}']
BODIES += ["[" * 100_000, '{"a":' * 40_000, '{"open": true, "metadata": {"a": NaN}}', "\ufeff{}"]


def test_a_malformed_json_body_is_refused(me, subtests):
    """A JSON body opens a job, or is a mistake."""
    for body in BODIES:
        with subtests.test(body[:60]):
            response = me.post("/v1/jobs", data=body, content_type="application/json")
            problem(response, 422, "bad_parameter")


def test_a_job_with_pictures_is_not_opened_by_a_word(me, subtests):
    """A form that says `open=false` must not leave a job open for ever."""
    for value in ("false", "0", "no", ""):
        with subtests.test(value):
            response = me.post("/v1/jobs", images=[("a", making.picture())], data={"open": value})
            if response.status_code == 202:
                assert response.json["sealed"]
            else:
                problem(response, 422, "bad_parameter")


LISTS = ["/v1/jobs", "/v1/jobs/{id}/results", "/v1/results"]


def test_a_malformed_limit_is_named(me, done, subtests):
    """1 to 1000, said so."""
    for path in LISTS:
        for limit in ("0", "-1", "1001", "x", "", "1e3", "%00", "9" * 5000):
            with subtests.test(path, limit=limit[:9]):
                detail = problem(me.get(f"{path.format(id=done['id'])}?limit={limit}"), 422, "bad_parameter")
                assert "limit" in detail
                assert "1000" in detail.replace(",", "")


def test_a_malformed_cursor_is_refused(me, done, subtests):
    """A cursor that is none of ours is a mistake, not a 500, and not silently the first page."""
    nines, quote, accent, thai = "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "JyBPUiAx", "w6k=", "4LmQ"
    for path in LISTS:
        for cursor in ("", "x", "%00", "====", "AAAA", "LTE=", "eA==", nines, quote, accent, thai):
            with subtests.test(path, cursor=cursor):
                problem(me.get(f"{path.format(id=done['id'])}?cursor={cursor}"), 422, "bad_parameter")


def test_a_parameter_that_we_do_not_know_does_no_harm(me, done, subtests):
    """Whatever stands in the query, the link to the next page is ours and leads on."""
    odd = ["_external=1", "_scheme=x", "_anchor=a", "_method=POST", "endpoint=x", "job_id=x", "self=1", "values=1"]
    for path in (path.format(id=done["id"]) for path in LISTS):
        for extra in odd:
            with subtests.test(path, extra=extra):
                response = me.get(f"{path}?limit=1&{extra}")
                if response.status_code == 422:
                    problem(response, 422, "bad_parameter")
                    continue
                assert response.status_code == 200, response.text
                following = next_page(response)
                if following is not None:
                    assert following.startswith(f"http://localhost{path}?")
                    assert me.get(following).status_code == 200


def test_a_link_keeps_the_filters(me, done):
    """The second page is of the same question."""
    following = next_page(me.get("/v1/results?status=done&limit=1&name=.png"))
    rows = me.get(following).json["results"]
    assert [row["image"] for row in rows] == ["a.png"]
    assert "status=done" in following


def test_an_unknown_status_is_said_to_be_unknown(me, done):
    """A misspelt status must not look like an empty list."""
    problem(me.get("/v1/jobs?status=finished"), 422, "bad_parameter")
    problem(me.get("/v1/results?status=finished"), 422, "bad_parameter")


def test_a_job_is_taken_in_once_its_blobs_are_safe(app, db, me, tmp_path):
    """No blobs, no rows, no 202: 503 with Retry-After, and nothing that names our disk."""
    (tmp_path / "blobs").write_text("a file where the folder should be")
    response = me.post("/v1/jobs", images=[("a", making.picture())])
    detail = problem(response, 503, "blobs_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert str(tmp_path) not in detail
    assert making.images(db) == {}
    (tmp_path / "blobs").unlink()
    assert me.post("/v1/jobs", images=[("a", making.picture())]).status_code == 202


def test_a_job_gets_through_its_stages(db, me):
    """Queued, running, done, with its times in order and its counts always whole."""
    url = me.post("/v1/jobs", images=[(f"{n}", making.picture(n)) for n in range(4)]).json["status_url"]
    seen = []
    for step in (lambda: None, lambda: making.claim(db, limit=2), lambda: making.finish(db, making.claim(db))):
        step()
        job = me.get(url).json
        counts = dict(job["counts"])
        assert counts.pop("total") == sum(counts.values()) == 4
        seen.append(job["status"])
    making.let_leases_end(db)
    db.write(work.rescue, max_attempts=1)
    job = me.get(url).json
    assert [*seen, job["status"]] == ["queued", "running", "running", "done"]
    times = [job["created_at"], job["sealed_at"], job["started_at"], job["finished_at"]]
    assert times == sorted(times)


def test_an_id_is_a_uuid_of_the_seventh_kind(me):
    """Ids are opaque to others; to the database they rise."""
    assert uuid.UUID(me.post("/v1/jobs", json={"open": True}).json["id"]).version == 7


def test_a_bell_that_nobody_hears_costs_a_request_nothing(me, app, db):
    """The row is the job: it is in the database before the bell is rung."""
    id_ = me.post("/v1/jobs", images=[("a", making.picture())]).json["id"]
    assert db.read(jobs.job, id_, me.id).total == 1
    assert (
        db.read(lambda c: c.execute(sa.select(making.IMAGES.c.sha256)).scalar())
        == hashlib.sha256(making.picture()).hexdigest()
    )


def test_a_job_knows_its_place_and_when_it_will_be_over(app, db, me):
    """From what was done lately; Retry-After is about then, and nothing of it is left when it is over."""
    first = me.post("/v1/jobs", images=[(f"{n}", making.picture(n)) for n in range(20)]).json
    app.extensions["sortbelt"].outlook._looked_at = -1e9
    job = me.post("/v1/jobs", images=[("a", making.picture())]).json
    assert (job["queue_position"], job["estimated_finish"]) == (20, None)
    making.finish(db, making.claim(db, limit=10))
    app.extensions["sortbelt"].outlook._looked_at = -1e9
    response = me.get(job["status_url"])
    assert response.json["queue_position"] == 10
    found = response.json
    assert job["created_at"] < found["earliest_finish"] <= found["estimated_finish"]
    assert found["latest_finish"] is None or found["latest_finish"] >= found["estimated_finish"]
    assert 1 <= int(response.headers["Retry-After"]) <= 30
    making.finish(db, making.claim(db))
    over = me.get(first["status_url"]).json
    assert not any(over[name] for name in ("queue_position", "estimated_finish", "earliest_finish", "latest_finish"))


def test_a_page_of_results_that_is_known_is_not_sent_again(me, done):
    """304 to its ETag."""
    first = me.get(done["results_url"])
    again = me.get(done["results_url"], headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_what_failed_can_be_ordered_anew_and_only_that(db, me):
    """A job of its own, with the same names; asked again it is the same; what has a label is left alone."""
    files = [(f"{n}.png", making.picture(n)) for n in range(4)] + [("text.txt", b"no picture")]
    job = me.post("/v1/jobs", images=files, data={"metadata": '{"a": 1}'}).json
    problem(me.post(job["retry_url"]), 409, "job_not_over")
    making.finish(db, making.claim(db, limit=2))
    making.finish(db, making.claim(db), label=None, error_code="timed_out", error_detail="Too slow.")
    response = me.post(job["retry_url"])
    assert response.status_code == 202, response.text
    again = response.json
    assert (again["retry_of"], again["counts"]["total"], again["metadata"]) == (job["id"], 2, {"a": 1})
    assert me.post(job["retry_url"]).json["id"] == again["id"]
    assert sorted(claim.name for claim in making.claim(db)) == ["2.png", "3.png"]
    assert me.get(job["status_url"]).json["counts"]["failed"] == 3


def test_where_nothing_failed_there_is_nothing_to_order_anew(db, me):
    """409, and no empty job."""
    job = me.post("/v1/jobs", images=[("a", making.picture()), ("b", b"no picture")]).json
    making.finish(db, making.claim(db))
    problem(me.post(job["retry_url"]), 409, "nothing_to_retry")


def test_the_failures_of_another_s_job_are_not_mine_to_order(db, me, other, reader):
    """404 as everywhere; and a reader orders nothing."""
    job = me.post("/v1/jobs", images=[("a", making.picture())]).json
    problem(other.post(job["retry_url"]), 404, "job_not_found")
    problem(reader.post(job["retry_url"]), 403, "not_allowed")


def test_what_is_not_begun_in_time_expires(db, me):
    """What a worker has taken goes on; the job ends with it, sealed, and can be ordered anew."""
    files = [(f"{n}", making.picture(n)) for n in range(3)]
    job = me.post("/v1/jobs", images=files, data={"expires_in": "3600"}).json
    assert job["expires_at"] > job["created_at"]
    taken = making.claim(db, limit=1)
    rescue.sweep(db, max_attempts=3)
    assert me.get(job["status_url"]).json["counts"]["expired"] == 0
    past = sa.update(making.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    rescue.sweep(db, max_attempts=3)
    assert me.get(job["status_url"]).json["counts"]["expired"] == 2
    making.finish(db, taken)
    over = me.get(job["status_url"]).json
    assert (over["status"], over["counts"]["done"]) == ("done", 1)
    codes = [result["error"] and result["error"]["code"] for result in me.get(job["results_url"]).json["results"]]
    assert sorted(map(str, codes)) == ["None", "expired", "expired"]
    assert me.post(job["retry_url"]).json["counts"]["total"] == 2


def test_an_open_job_is_sealed_by_its_deadline(db, me):
    """Nobody waits for ever for somebody who has forgotten."""
    job = me.post("/v1/jobs", json={"open": True, "expires_in": 1}).json
    past = sa.update(making.JOBS).values(expires_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    rescue.sweep(db, max_attempts=3)
    over = me.get(job["status_url"]).json
    assert over["sealed"]
    assert over["finished_at"] is not None


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "inf", "1e9"])
def test_a_deadline_is_a_number_of_seconds(me, seconds):
    """Refused by its name."""
    response = me.post("/v1/jobs", images=[("a", making.picture())], data={"expires_in": seconds})
    assert "expires_in" in problem(response, 422, "bad_parameter")


def test_a_purged_job_is_gone(app, db, me):
    """410 everywhere, and its bytes with it, but not those that another job has too."""
    parts = app.extensions["sortbelt"]
    old = me.post("/v1/jobs", images=[("a", making.picture(1)), ("b", making.picture(2))]).json
    making.finish(db, making.claim(db))
    past = sa.update(making.JOBS).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    for path in Path(app.extensions["sortbelt"].settings.blobs).glob("*/*"):
        os.utime(path, (0, 0))
    new = me.post("/v1/jobs", images=[("a", making.picture(2))]).json
    assert purge.run(db, parts.blobs, days=30) == 1
    for path in ("", "/results", "/events"):
        problem(me.get(f"/v1/jobs/{old['id']}{path}"), 410, "job_purged")
    problem(me.post(old["retry_url"]), 410, "job_purged")
    assert [job["id"] for job in me.get("/v1/jobs").json["jobs"]] == [new["id"]]
    assert not stored(app, making.picture(1))
    assert stored(app, making.picture(2))
    assert db.read(invariants.miscounted_jobs) == 0
    assert purge.run(db, parts.blobs, days=30) == 0
