from api.http import auth
from api.routes import swagger_ui, web
from core import enums
from core.db.queries import api_keys
from tests.support import factories
from tests.support.api_client import ApiClient, assert_problem

NOWHERE = "00000000-0000-7000-8000-000000000000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def every_route(app):
    """Return each rule of the app with each method, as (endpoint, path, method)."""
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<job_id>", NOWHERE).replace("<key_id>", NOWHERE)
        path = path.replace("<name>", "x").replace("<other_id>", NOWHERE).replace("<result_id>", "1")
        path = path.replace("<delivery_id>", "1").replace("<image_id>", "1")
        assert "<" not in path
        for method in METHODS:
            yield rule.endpoint, path, method


def test_every_route_and_method_needs_a_key(app, anonymous_client):
    """401 without a key for every route, except the public ones."""
    closed = [route for route in every_route(app) if route[0] not in auth.PUBLIC_ENDPOINTS]
    assert len(closed) > 50
    for _, path, method in closed:
        response = anonymous_client.request(method, path)
        assert response.status_code == 401, (method, path)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert "Authorization: Bearer" in assert_problem(response, 401, "no_key")


def test_only_liveness_docs_and_the_empty_page_are_public(app):
    """A change that makes another route public has to change this test."""
    documents = {"docs.page", "docs.openapi", "swagger_ui.page", "swagger_ui.asset"}
    with_signature = {"images.linked"}
    assert documents | with_signature | {"health.livez", "web.start", "web.asset"} == auth.PUBLIC_ENDPOINTS
    open_ = {path for endpoint, path, _ in every_route(app) if endpoint in auth.PUBLIC_ENDPOINTS}
    files = {f"/static/{name}" for name in web.PUBLIC_FILES} | {f"/docs/try/{name}" for name in swagger_ui.FILES}
    open_ -= {path for path in open_ if path.endswith("/linked")}
    assert open_ == files | {"/livez", "/docs", "/docs/try/", "/openapi.json", "/"}


def test_missing_routes_need_a_key_too(anonymous_client, subtests):
    """A caller without a key cannot find out which routes exist."""
    files = ("/static/x", "/static/", "/static/page.html", "/static/../auth.py", "/static/app.js/")
    for path in ("/nowhere", "/v1", "/v1/jobs/", "/v2/jobs", *files, "/livez/", "//livez"):
        with subtests.test(path):
            assert_problem(anonymous_client.get(path), 401, "no_key")


WRONG = ["", "Bearer", "Bearer ", "bearer", "Basic dXNlcjpwYXNz", "Basic !!!", "Token x", "Bearer x", "Bearer a b c"]
WRONG += ["Bearer sb_00000000_" + "a" * 43, "Bearer sb_00000000_" + "a" * 5000, "Bearer " + "\xe4" * 40, "Bearer a=b"]
WRONG += [
    "Bearer sb_00000000_' OR 1=1 --" + "a" * 40,
    "Bearer sb_%00000000_" + "a" * 43,
    "x" * 10_000,
    "Digest",
    "Bearer ,=,",
]


def test_a_wrong_key_is_rejected(app, subtests):
    """Mistyped, malformed, or of another server: 401."""
    for header in WRONG:
        with subtests.test(header[:40]):
            assert_problem(app.test_client().get("/v1/jobs", headers={"Authorization": header}), 401, "no_key")


def test_a_key_is_accepted_only_as_a_bearer_token(app, submit_client):
    """Not as a parameter, a cookie, another scheme or another header."""
    client = app.test_client()
    client.set_cookie("Authorization", submit_client.key)
    for response in (
        client.get(f"/v1/jobs?key={submit_client.key}&access_token={submit_client.key}"),
        client.get("/v1/jobs", headers={"Authorization": submit_client.key}),
        client.get("/v1/jobs", headers={"Authorization": f"Token {submit_client.key}"}),
        client.get("/v1/jobs", headers={"X-API-Key": submit_client.key}),
    ):
        assert_problem(response, 401, "no_key")


def test_the_scheme_bearer_is_case_insensitive(app, submit_client):
    """As RFC 9110 requires."""
    assert (
        app.test_client().get("/v1/jobs", headers={"Authorization": f"bearer {submit_client.key}"}).status_code == 200
    )


def test_a_key_with_the_right_prefix_and_a_wrong_secret_is_rejected(app, submit_client):
    """The prefix is shown in lists; it authenticates nothing."""
    wrong = submit_client.key[:12] + submit_client.key[12:][::-1]
    assert_problem(ApiClient(app.test_client(), wrong).get("/v1/jobs"), 401, "no_key")


def test_a_revoked_key_is_rejected_from_the_next_request_on(admin_client, submit_client):
    """Revoking takes effect at once."""
    assert submit_client.get("/v1/jobs").status_code == 200
    assert admin_client.request("DELETE", f"/v1/keys/{submit_client.id}").status_code == 200
    assert_problem(submit_client.get("/v1/jobs"), 401, "no_key")


def test_a_reader_sees_all_jobs_and_a_submitter_its_own(read_client, submit_client, other_client, finished_job):
    """Lists, a job, its results, events, thumbnails and statistics; for another submitter they are 404."""
    job = finished_job["id"]
    image = submit_client.get(f"/v1/jobs/{job}/results").json["results"][0]
    observed = (f"/v1/jobs/{job}", f"/v1/jobs/{job}?wait=1", f"/v1/jobs/{job}/results", f"/v1/jobs/{job}/diff/{job}")
    for path in (*observed, f"/v1/images/{image['image_id']}/thumbnail"):
        assert read_client.get(path).status_code == 200, path
        assert other_client.get(path).status_code == 404, path
    assert read_client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "end"}).status_code == 204
    assert_problem(other_client.get(f"/v1/jobs/{job}/events"), 404, "job_not_found")
    for path, name in (("/v1/jobs", "jobs"), ("/v1/results", "results"), ("/v1/stats", "stats")):
        for owner in ("", f"?owner={submit_client.id}"):
            assert len(read_client.get(path + owner).json[name]) == len(submit_client.get(path).json[name]) > 0
            assert other_client.get(path + owner).json[name] == []
        assert read_client.get(f"{path}?owner={other_client.id}").json[name] == []


def test_a_reader_sees_only_the_host_of_a_webhook(read_client, submit_client, admin_client):
    """The rest of the URL may be a secret; its owner and admins see all of it."""
    url = "https://hooks.example.com:8443/services/T0/SECRET?key=SECRET"
    job = submit_client.post("/v1/jobs", json={"open": True, "webhook": url}).json["id"]
    for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}?wait=0.1", "/v1/jobs"):
        for api_client in (submit_client, admin_client):
            assert url in api_client.get(path).text
        assert "SECRET" not in read_client.get(path).text
        assert "https://hooks.example.com:8443/" in read_client.get(path).text


def test_a_reader_cannot_change_anything(app, read_client, submit_client, db):
    """Every operation that is not a GET, and every secret, is 403."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json["id"]
    for endpoint, path, method in every_route(app):
        changes = method in ("POST", "PUT", "PATCH", "DELETE")
        if changes and app.url_map.bind("").test(path, method):
            assert_problem(read_client.request(method, path.replace(NOWHERE, job)), 403, "not_allowed")
            assert endpoint not in auth.PUBLIC_ENDPOINTS
    for path in ("/v1/keys", "/v1/webhooks/secret"):
        assert_problem(read_client.get(path), 403, "not_allowed")


def test_a_reader_can_only_read(read_client, db):
    """Role `read`: lists are allowed, submissions and keys are not."""
    assert read_client.get("/v1/jobs").status_code == read_client.get("/v1/results").status_code == 200
    for path in ("", f"/{NOWHERE}/images", f"/{NOWHERE}/seal", f"/{NOWHERE}/cancel"):
        detail = assert_problem(read_client.post(f"/v1/jobs{path}", data=factories.make_image()), 403, "not_allowed")
        assert "submit" in detail
        assert "read" in detail
    assert factories.image_states(db) == {}


def test_keys_are_for_admins(submit_client, read_client):
    """Other roles can neither list, create nor revoke keys."""
    for api_client in (submit_client, read_client):
        assert_problem(api_client.get("/v1/keys"), 403, "not_allowed")
        assert_problem(api_client.post("/v1/keys", json={"name": "x", "role": "admin"}), 403, "not_allowed")
        assert_problem(api_client.request("DELETE", f"/v1/keys/{api_client.id}"), 403, "not_allowed")
        assert api_client.get("/v1/jobs").status_code == 200


def test_the_key_is_checked_before_the_body_is_read(app):
    """A request without a key does not make the server read megabytes."""
    response = app.test_client().post("/v1/jobs", data=b"x" * 400_000, content_type="image/png")
    assert_problem(response, 401, "no_key")


def test_no_response_contains_a_key(app, admin_client, submit_client):
    """A key is shown once, to the admin who created it."""
    created = admin_client.post("/v1/keys", json={"name": "new", "role": enums.Role.READ}).json
    assert api_keys.KEY_PATTERN.fullmatch(created["key"])
    for path in ("/v1/keys", "/v1/jobs", "/readyz"):
        text = admin_client.get(path).text
        assert not any(key in text or key[12:] in text for key in (created["key"], submit_client.key, admin_client.key))
