"""Errors as problem details."""

import functools
import hashlib
import re
import uuid

import pytest
import sqlalchemy as sa

from api.http import problems
from core import errors
from core.db import database
from tests.support import factories, servers
from tests.support.api_client import assert_problem


def test_a_missing_path_is_not_found(submit_client, subtests):
    """404 as a problem."""
    for path in ("/nowhere", "/v1", "/v1/jobs/", "/v1/keys/x/y", "/%00", "/" + "x" * 5000, "/v1/jobs/a/b/c"):
        with subtests.test(path[:40]):
            assert "/docs lists all operations" in assert_problem(submit_client.get(path), 404, "not_found")


def test_an_empty_id_is_a_missing_path(submit_client):
    """And not a redirect to another one."""
    assert "'/v1/jobs//results'" in assert_problem(submit_client.get("/v1/jobs//results"), 404, "not_found")


def test_what_is_missing_is_named(submit_client, admin_client, subtests):
    """So that a caller with many jobs knows which one it is; also an id that cannot be one."""
    missing = str(uuid.uuid4())
    for client, method, path, code in (
        (submit_client, "GET", "/v1/jobs/{}", "job_not_found"),
        (submit_client, "DELETE", "/v1/jobs/{}", "job_not_found"),
        (submit_client, "GET", "/v1/results/{}", "result_not_found"),
        (submit_client, "DELETE", "/v1/images/{}", "image_not_found"),
        (submit_client, "GET", "/v1/images/{}/thumbnail", "image_not_found"),
        (submit_client, "POST", "/v1/webhooks/deliveries/{}/replay", "delivery_not_found"),
        (admin_client, "DELETE", "/v1/keys/{}", "key_not_found"),
    ):
        for id_ in (missing, "4711", "x"):
            with subtests.test(f"{method} {path} {id_}"):
                assert f"'{id_}'" in assert_problem(client.request(method, path.format(id_)), 404, code)


def test_a_result_of_another_key_is_as_missing_as_one_that_does_not_exist(submit_client, other_client, finished_job):
    """The sentences differ in the id only."""
    id_ = submit_client.get(finished_job["results_url"]).json["results"][0]["id"]
    theirs = assert_problem(other_client.get(f"/v1/results/{id_}"), 404, "result_not_found")
    unknown = assert_problem(other_client.get("/v1/results/999999"), 404, "result_not_found")
    assert theirs.replace(f"'{id_}'", "'999999'") == unknown


def test_an_unavailable_service_says_once_when_to_retry():
    """Its own detail may name hosts, and is for the log; that of a version in its test names the version."""
    hidden = problems.unavailable_detail(errors.DatabaseUnavailable("db.internal does not answer."))
    assert hidden == "The database does not answer. Retry in 2 seconds."
    shown = problems.unavailable_detail(errors.VersionBeingTested("A worker is testing dishes@2."))
    assert shown == "A worker is testing dishes@2. Retry in 2 seconds."


def test_json_without_its_content_type_is_rejected_with_advice(submit_client):
    """Sent as a form, or without a type."""
    for kind in ("application/x-www-form-urlencoded", None):
        response = submit_client.post("/v1/jobs", data=b'{"open": true}', content_type=kind)
        code = "bad_parameter" if kind is None else "no_images"
        assert "`Content-Type: application/json`" in assert_problem(response, 422, code)


def test_an_unsupported_method_is_rejected_with_the_supported_ones(submit_client):
    """405 with Allow."""
    for method, path in (("PUT", "/v1/jobs"), ("DELETE", "/v1/jobs"), ("POST", "/v1/results")):
        response = submit_client.request(method, path)
        detail = assert_problem(response, 405, "method_not_allowed")
        assert "GET" in response.headers["Allow"]
        assert re.search(rf"takes GET(, POST)?, not {method}; /docs lists", detail)


def test_a_body_over_the_limit_is_rejected_with_the_limit(submit_client, db):
    """413, as a raw body and as a form; no job is created."""
    for options in (
        {"data": b"x" * 300_001, "content_type": "image/png"},
        {"images": [(f"{n}", bytes(40_000)) for n in range(9)]},
        {"data": b" " * 300_001, "content_type": "application/json"},
    ):
        assert "300,000" in assert_problem(submit_client.post("/v1/jobs", **options), 413, "body_too_large")
    assert factories.image_states(db) == {}


def test_a_large_text_field_is_not_reported_as_a_large_body(submit_client):
    """The message names the form field, not the body."""
    response = submit_client.post(
        "/v1/jobs", images=[("a", factories.make_image())], data={"metadata": '{"a": "' + "x" * 200_000 + '"}'}
    )
    assert "16,384 bytes" in assert_problem(response, 422, "bad_parameter")


def test_too_much_text_is_not_reported_as_too_many_images(app, submit_client):
    """Sending fewer images would not help."""
    app.config["MAX_FORM_MEMORY_SIZE"] = 1_000
    response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data={"metadata": "x" * 2_000})
    assert "besides the files" in assert_problem(response, 422, "bad_parameter")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_too_many_fields_are_not_reported_as_too_many_images(submit_client):
    """1,500 of them, beside one image."""
    data = {f"field{n}": "x" for n in range(1_500)}
    response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data=data)
    assert "fields besides the files" in assert_problem(response, 422, "bad_parameter")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_json_must_be_utf8(submit_client):
    """No byte is replaced in silence; a byte order mark is harmless."""
    send = functools.partial(submit_client.post, "/v1/jobs", content_type="application/json")
    response = send(data='{"open": true, "job_name": "Küche"}'.encode("latin-1"))
    assert "not UTF-8, which JSON must be: byte 29 is 0xfc" in assert_problem(response, 422, "bad_parameter")
    assert_problem(send(data='{"open": true}'.encode("utf-16")), 422, "bad_parameter")
    assert send(data='{"open": true}'.encode("utf-8-sig")).status_code == 202


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("host", ["", "a b", "a,b", "a/b", "host:0"])
def test_a_request_needs_a_usable_host(submit_client, host):
    """The links of its response begin with it."""
    response = submit_client.get("/v1/jobs", headers={"Host": host})
    assert f"Host: {host!r}" in assert_problem(response, 400, "bad_request")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("host", ["host", "my_api:8000", "[::1]:8000"])
def test_links_begin_with_the_host(submit_client, host):
    """Also one with an underscore, as in Compose."""
    job = submit_client.post("/v1/jobs", json={"open": True}, headers={"Host": host}).json
    assert job["results_url"].startswith(f"http://{host}/v1/jobs/")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("preference", "applied"), [("wait=99999999999", "wait=30"), (f"wait={'9' * 5000}", "wait=30"), ("wait=1e3", None)]
)
def test_a_preference_is_applied_up_to_the_longest_wait(submit_client, preference, applied):
    """And the header says how long that is."""
    response = submit_client.post("/v1/jobs", json={"open": True}, headers={"Prefer": preference})
    assert (response.status_code, response.headers.get("Preference-Applied")) == (202, applied)


def test_a_wrong_value_is_named_with_what_it_must_be(submit_client, subtests):
    """The location, and what is expected there."""
    for path, json, described in (
        (
            "/v1/jobs?since=tomorrow",
            None,
            "since='tomorrow' is not acceptable: it must be a timestamp, such as 2026-",
        ),
        ("/v1/results?until=tomorrow", None, "it must be a timestamp, such as 2026-"),
        ("/v1/jobs", {"open": True, "fresh": "yes"}, "fresh='yes' is not acceptable: it must be true or false."),
        ("/v1/jobs", {"open": True, "metadata": []}, "it must be a JSON object."),
        (
            "/v1/jobs",
            {"images": [{"name": "a", "sha256": "zz"}]},
            "images[0].sha256='zz' is not acceptable: it must be 64 hex",
        ),
        ("/v1/jobs", {"images": [{"name": "a"}]}, "it must have exactly one of sha256, data and url"),
        ("/v1/blobs/check", {"sha256": ["zz"]}, "sha256[0]='zz' is not acceptable: it must be 64 hexadecimal digits"),
    ):
        with subtests.test(described):
            response = submit_client.get(path) if json is None else submit_client.post(path, json=json)
            assert described in assert_problem(response, 422, "bad_parameter")
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    for more, described in (
        ({"prefix": "x" * 5_000}, "too long: it may have 1,024"),
        ({"seal": "no"}, "true or false"),
    ):
        with subtests.test(described):
            response = submit_client.post(f"/v1/jobs/{job['id']}/scan", json={"source": "photos", **more})
            assert described in assert_problem(response, 422, "bad_parameter")


def test_an_unexpected_error_is_a_500_without_details(app, submit_client, caplog):
    """The stack trace is in the log, under the id of the request."""

    def broken():
        raise RuntimeError("secret of the server")

    app.view_functions["jobs.index"] = broken
    response = submit_client.get("/v1/jobs", headers={"X-Request-ID": "find-me"})
    detail = assert_problem(response, 500, "internal_error")
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
    assert "request_id" in detail
    assert "find-me" in caplog.text
    assert "secret of the server" in caplog.text


def test_every_response_has_a_request_id(app, submit_client):
    """A new one, or the caller's own if it is valid."""
    created = {submit_client.get("/v1/jobs").headers["X-Request-ID"] for _ in range(3)}
    assert len({uuid.UUID(id_) for id_ in created}) == 3
    for response in (
        submit_client.get("/v1/jobs", headers={"X-Request-ID": "mine-1.2_3"}),
        submit_client.get("/nowhere"),
    ):
        assert response.headers["X-Request-ID"]
    assert submit_client.get("/v1/jobs", headers={"X-Request-ID": "mine-1.2_3"}).headers["X-Request-ID"] == "mine-1.2_3"
    assert app.test_client().get("/livez").headers["X-Request-ID"]


def test_an_invalid_request_id_is_replaced(submit_client):
    """Arbitrary text from callers does not get into the log."""
    for raw_id in ("", "x" * 101, "a b", "<script>", 'a"b', "a;b", "../x"):
        answered = submit_client.get("/nowhere", headers={"X-Request-ID": raw_id})
        assert answered.headers["X-Request-ID"] != raw_id
        assert re.fullmatch(r"[\w.-]{1,100}", answered.headers["X-Request-ID"])
        assert answered.json["request_id"] == answered.headers["X-Request-ID"]


def test_an_unavailable_database_is_a_503_with_retry_after(app, app_settings, submit_client, monkeypatch):
    """Without hosts or files in the message; and the next request after its return succeeds."""
    parts = app.extensions["sortbelt"]
    gone = database.Database(f"postgresql+psycopg://u:pw@127.0.0.1:{servers.free_port()}/x")
    there = parts.db.engine
    parts.db.engine = gone.engine
    response = submit_client.get("/v1/jobs")
    detail = assert_problem(response, 503, "database_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in detail
    parts.db.engine = there
    assert submit_client.get("/v1/jobs").status_code == 200


def test_a_database_without_tables_is_a_503(app, submit_client, db):
    """The database was not migrated: reported as such, without a stack trace."""
    db.write(lambda c: c.execute(sa.text("ALTER TABLE api_keys RENAME TO gone")))
    assert_problem(submit_client.get("/v1/jobs"), 503, "database_unavailable")


def test_every_client_error_has_a_status():
    """A new error class without a status would be a 500."""
    from api.http.problems import STATUS_BY_CODE

    def below(kind):
        return {kind, *(deep for sub in kind.__subclasses__() for deep in below(sub))}

    assert {kind.code for kind in below(errors.ClientError)} <= set(STATUS_BY_CODE)
    assert {"empty", "too_large", "undecodable", "unsupported_format"} <= set(STATUS_BY_CODE)


def test_errors_are_never_html(anonymous_client):
    """Also for clients that prefer HTML."""
    response = anonymous_client.get("/nowhere", headers={"Accept": "text/html"})
    assert_problem(response, 401, "no_key")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def faults(response):
    """Return the faults of a problem: (pointer, code, image) each; their details are sentences."""
    assert all(fault["detail"].endswith((".", "…")) for fault in response.json["errors"])
    return [(fault["pointer"], fault["code"], fault.get("image")) for fault in response.json["errors"]]


def test_each_wrong_value_of_a_body_is_a_fault_with_its_pointer(submit_client):
    """RFC 9457: programs find the place, and the image, without reading the sentence."""
    images = [{"name": "a", "sha256": "zz"}, {"name": "b", "sha256": "0" * 64, "colour": 1}, {"sha256": "0" * 64}]
    response = submit_client.post("/v1/jobs", json={"images": images, "fresh": "maybe"})
    detail = assert_problem(response, 422, "bad_parameter")
    assert faults(response) == [
        ("#/fresh", "bad_value", None),
        ("#/images/0/sha256", "bad_value", "a"),
        ("#/images/1/colour", "unknown_field", "b"),
        ("#/images/2/name", "missing_field", None),
    ]
    assert all(fault["detail"] in detail for fault in response.json["errors"])


def test_parameters_and_form_fields_have_pointers_too(submit_client):
    """They count as fields of the request; odd characters are escaped."""
    response = submit_client.get("/v1/results?min_confidence=7&since=tomorrow")
    assert faults(response) == [("#/min_confidence", "bad_value", None), ("#/since", "bad_value", None)]
    response = submit_client.get("/v1/results?a/b~%C3%A4=1")
    assert faults(response) == [("#/a~1b~0%C3%A4", "unknown_field", None)]
    form = {"expires_in": "0", "priority": "high"}
    response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())], data=form)
    assert sorted(faults(response)) == [("#/expires_in", "bad_value", None), ("#/priority", "bad_value", None)]


def test_every_missing_blob_is_named(submit_client):
    """A client uploads these images, and refers to the others again."""
    known = factories.make_image(1)
    submit_client.post("/v1/jobs", images=[("known", known)])
    digests = {"known": hashlib.sha256(known).hexdigest(), "b": "1" * 64, "c": "2" * 64}
    images = [{"name": name, "sha256": digest} for name, digest in digests.items()]
    response = submit_client.post("/v1/jobs", json={"images": images})
    assert "'b' and of 1 more" in assert_problem(response, 422, "unknown_blob")
    assert faults(response) == [
        ("#/images/1/sha256", "unknown_blob", "b"),
        ("#/images/2/sha256", "unknown_blob", "c"),
    ]


def test_every_repeated_name_is_named(submit_client):
    """Also those of a form, whose images have the positions of their parts."""
    response = submit_client.post("/v1/jobs", images=[(name, factories.make_image()) for name in "abab"])
    assert_problem(response, 422, "duplicate_name")
    assert faults(response) == [("#/images/2/name", "duplicate_name", "a"), ("#/images/3/name", "duplicate_name", "b")]


def test_a_problem_without_faults_has_no_list(submit_client):
    """Its code and its detail say everything."""
    assert "errors" not in submit_client.get("/nowhere").json
    assert "errors" not in submit_client.get(f"/v1/jobs/{uuid.uuid4()}").json


def test_the_document_describes_faults(app):
    """With examples of their pointers."""
    schemas = app.test_client().get("/openapi.json").json["components"]["schemas"]
    assert schemas["Problem"]["properties"]["errors"]["items"] == {"$ref": "#/components/schemas/ProblemFault"}
    assert "errors" not in schemas["Problem"]["required"]
    assert set(schemas["ProblemFault"]["properties"]) == {"pointer", "code", "detail", "image"}


@pytest.mark.parametrize("path", ["/v1/jobs", "/livez", "/v1/jobs/none/events"])
def test_a_websocket_upgrade_is_answered_with_what_to_use_instead(submit_client, path):
    """Not that the path takes no GET; without a key, the answer is 401 as always."""
    headers = {"Connection": "Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13"}
    assert "/events" in assert_problem(submit_client.get(path, headers=headers), 400, "no_websockets")
    submit_client.key = "wrong"
    assert submit_client.get("/v1/jobs", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/results", "/v1/stats", "/livez", "/v1/jobs/none", "/nowhere", "/metrics"]
)
def test_no_cache_may_keep_a_response(admin_client, path):
    """Row 13: results, and errors, unless a response says otherwise as thumbnails do."""
    assert admin_client.get(path).headers["Cache-Control"] == "private, no-store"
