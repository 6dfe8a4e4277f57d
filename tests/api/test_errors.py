import re
import uuid

import sqlalchemy as sa

from jobs import database, errors
from tests import servers
from tests.api.asking import Person, problem
from tests.jobs import making


def test_what_does_not_exist_is_not_found(me, subtests):
    """404 in the one shape."""
    for path in ("/nowhere", "/v1", "/v1/jobs/", "/v1/keys/x/y", "/%00", "/" + "x" * 5000, "/v1/jobs/a/b/c"):
        with subtests.test(path[:40]):
            assert "/docs lists all calls" in problem(me.get(path), 404, "not_found")


def test_an_id_left_out_is_a_path_that_is_not_there(me):
    """And no redirect to another, with a page."""
    assert "'/v1/jobs//results'" in problem(me.get("/v1/jobs//results"), 404, "not_found")


def test_a_job_that_is_not_there_is_named(me):
    """So that whoever asks for many knows which it was."""
    missing = str(uuid.uuid4())
    assert missing in problem(me.get(f"/v1/jobs/{missing}"), 404, "job_not_found")


def test_json_that_does_not_say_so_is_told_to(me):
    """Whether it comes as a form's or as nothing's."""
    for kind in ("application/x-www-form-urlencoded", None):
        response = me.post("/v1/jobs", data=b'{"open": true}', content_type=kind)
        code = "bad_parameter" if kind is None else "no_images"
        assert "`Content-Type: application/json`" in problem(response, 422, code)


def test_a_method_that_a_route_has_not_is_refused_with_those_it_has(me):
    """405 with Allow."""
    for method, path in (("PUT", "/v1/jobs"), ("DELETE", "/v1/jobs"), ("POST", "/v1/results")):
        response = me.ask(method, path)
        detail = problem(response, 405, "method_not_allowed")
        assert "GET" in response.headers["Allow"]
        assert re.search(rf"takes GET(, POST)?, and not {method}; /docs lists", detail)


def test_a_body_over_the_limit_is_refused_with_the_limit(me, db):
    """413, as one raw body and as a form; no job is made."""
    for options in (
        {"data": b"x" * 300_001, "content_type": "image/png"},
        {"images": [(f"{n}", bytes(40_000)) for n in range(9)]},
        {"data": b" " * 300_001, "content_type": "application/json"},
    ):
        assert "300,000" in problem(me.post("/v1/jobs", **options), 413, "body_too_large")
    assert making.images(db) == {}


def test_a_big_text_field_is_not_said_to_be_a_big_body(me):
    """What is too much is named: here it is a form field, not the body."""
    response = me.post(
        "/v1/jobs", images=[("a", making.picture())], data={"metadata": '{"a": "' + "x" * 200_000 + '"}'}
    )
    assert "16,384 bytes" in problem(response, 422, "bad_parameter")


def test_too_much_text_is_not_said_to_be_too_many_pictures(app, me):
    """A client that sent fewer pictures would do so in vain."""
    app.config["MAX_FORM_MEMORY_SIZE"] = 1_000
    response = me.post("/v1/jobs", images=[("a", making.picture())], data={"metadata": "x" * 2_000})
    assert "besides the files" in problem(response, 422, "bad_parameter")


def test_what_is_wrong_is_named_with_what_it_must_be(me, subtests):
    """The place, and words that fit it: a description of what it does is no help."""
    for path, json, said in (
        ("/v1/jobs?since=yesterday", None, "since='yesterday' is not acceptable: it must be a moment, like 2026-"),
        ("/v1/results?until=yesterday", None, "it must be a moment, like 2026-"),
        ("/v1/jobs", {"open": True, "fresh": "yes"}, "fresh='yes' is not acceptable: it must be true or false."),
        ("/v1/jobs", {"open": True, "metadata": []}, "it must be a JSON object."),
        (
            "/v1/jobs",
            {"images": [{"name": "a", "sha256": "zz"}]},
            "images[0].sha256='zz' is not acceptable: it must be 64 hex",
        ),
        ("/v1/jobs", {"images": [{"name": "a"}]}, "images[0].sha256 is missing: it must be 64 hexadecimal digits"),
        ("/v1/blobs/check", {"sha256": ["zz"]}, "sha256[0]='zz' is not acceptable: it must be 64 hexadecimal digits"),
    ):
        with subtests.test(said):
            response = me.get(path) if json is None else me.post(path, json=json)
            assert said in problem(response, 422, "bad_parameter")
    job = me.post("/v1/jobs", json={"open": True}).json
    for more, said in (({"prefix": "x" * 5_000}, "too long: it may have 1,024"), ({"seal": "no"}, "true or false")):
        with subtests.test(said):
            response = me.post(f"/v1/jobs/{job['id']}/scan", json={"source": "photos", **more})
            assert said in problem(response, 422, "bad_parameter")


def test_a_fault_of_ours_is_a_500_that_tells_nothing_but_its_name(app, me, caplog):
    """The stack trace is for the log, under the request's id."""

    def broken():
        raise RuntimeError("secret of the house")

    app.view_functions["jobs.index"] = broken
    response = me.get("/v1/jobs", headers={"X-Request-ID": "find-me"})
    detail = problem(response, 500, "internal_error")
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
    assert "request_id" in detail
    assert "find-me" in caplog.text
    assert "secret of the house" in caplog.text


def test_every_answer_has_a_request_id(app, me):
    """Ours, or the caller's own where it is one."""
    made = {me.get("/v1/jobs").headers["X-Request-ID"] for _ in range(3)}
    assert len({uuid.UUID(id_) for id_ in made}) == 3
    for response in (me.get("/v1/jobs", headers={"X-Request-ID": "mine-1.2_3"}), me.get("/nowhere")):
        assert response.headers["X-Request-ID"]
    assert me.get("/v1/jobs", headers={"X-Request-ID": "mine-1.2_3"}).headers["X-Request-ID"] == "mine-1.2_3"
    assert app.test_client().get("/livez").headers["X-Request-ID"]


def test_a_request_id_that_is_none_is_replaced(me):
    """Nothing that a caller sends gets into our log unread."""
    for given in ("", "x" * 101, "a b", "<script>", 'a"b', "a;b", "../x"):
        answered = me.get("/nowhere", headers={"X-Request-ID": given})
        assert answered.headers["X-Request-ID"] != given
        assert re.fullmatch(r"[\w.-]{1,100}", answered.headers["X-Request-ID"])
        assert answered.json["request_id"] == answered.headers["X-Request-ID"]


def test_a_database_that_is_away_is_a_503_with_a_time_to_come_back(app, wanted, me, monkeypatch):
    """Nothing about hosts or files; and when it is back, so are we."""
    parts = app.extensions["sortbelt"]
    gone = database.Database(f"postgresql+psycopg://u:pw@127.0.0.1:{servers.free_port()}/x")
    there = parts.db.engine
    parts.db.engine = gone.engine
    response = me.get("/v1/jobs")
    detail = problem(response, 503, "database_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in detail
    parts.db.engine = there
    assert me.get("/v1/jobs").status_code == 200


def test_a_database_without_tables_is_a_503(app, me, db):
    """Somebody forgot to migrate: ours to mend, said so, and no stack trace."""
    db.write(lambda c: c.execute(sa.text("ALTER TABLE api_keys RENAME TO gone")))
    problem(me.get("/v1/jobs"), 503, "database_unavailable")


def test_every_refusal_has_a_status():
    """Whoever adds a refusal gives it a status, or it would be a 500."""
    from api.errors import STATUS

    def below(kind):
        return {kind, *(deep for sub in kind.__subclasses__() for deep in below(sub))}

    assert {kind.code for kind in below(errors.Refused)} <= set(STATUS)
    assert {"empty", "too_large", "undecodable", "unsupported_format"} <= set(STATUS)


def test_errors_are_never_html(app):
    """Not even for whoever asks for it."""
    response = Person(app.test_client(), None).get("/nowhere", headers={"Accept": "text/html"})
    problem(response, 401, "no_key")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
