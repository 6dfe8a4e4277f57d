from api import auth, web
from jobs import tables
from jobs.store import keys
from tests.api.asking import Person, problem
from tests.jobs import making

NOWHERE = "00000000-0000-7000-8000-000000000000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def every_route(app):
    """Each rule of the application with each method, as (endpoint, path, method)."""
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<job_id>", NOWHERE).replace("<key_id>", NOWHERE)
        path = path.replace("<name>", "x").replace("<other_id>", NOWHERE).replace("<result_id>", "1")
        path = path.replace("<delivery_id>", "1").replace("<image_id>", "1")
        assert "<" not in path
        for method in METHODS:
            yield rule.endpoint, path, method


def test_every_route_and_method_wants_a_key(app):
    """401 for all without one, in the one shape, but for what is named as open."""
    nobody = Person(app.test_client(), None)
    closed = [route for route in every_route(app) if route[0] not in auth.OPEN]
    assert len(closed) > 50
    for _, path, method in closed:
        response = nobody.ask(method, path)
        assert response.status_code == 401, (method, path)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert "Authorization: Bearer" in problem(response, 401, "no_key")


def test_only_a_sign_of_life_the_manual_and_the_empty_page_are_open(app):
    """Whoever opens another route must change this test, and say why."""
    assert {"health.livez", "docs.page", "docs.openapi", "web.start", "web.asset"} == auth.OPEN
    open_ = {path for endpoint, path, _ in every_route(app) if endpoint in auth.OPEN}
    files = {path for path in open_ if path.startswith("/static/")}
    assert open_ - files == {"/livez", "/docs", "/openapi.json", "/"}
    assert files == {f"/static/{name}" for name in web.FILES}


def test_what_does_not_exist_wants_a_key_too(app, subtests):
    """Nobody maps our house without a key."""
    nobody = Person(app.test_client(), None)
    files = ("/static/x", "/static/", "/static/page.html", "/static/../auth.py", "/static/app.js/")
    for path in ("/nowhere", "/v1", "/v1/jobs/", "/v2/jobs", *files, "/livez/", "//livez"):
        with subtests.test(path):
            problem(nobody.get(path), 401, "no_key")


WRONG = ["", "Bearer", "Bearer ", "bearer", "Basic dXNlcjpwYXNz", "Basic !!!", "Token x", "Bearer x", "Bearer a b c"]
WRONG += ["Bearer sb_00000000_" + "a" * 43, "Bearer sb_00000000_" + "a" * 5000, "Bearer " + "\xe4" * 40, "Bearer a=b"]
WRONG += [
    "Bearer sb_00000000_' OR 1=1 --" + "a" * 40,
    "Bearer sb_%00000000_" + "a" * 43,
    "x" * 10_000,
    "Digest",
    "Bearer ,=,",
]


def test_a_wrong_key_is_no_key(app, subtests):
    """Mistyped, of another kind, of another server: 401."""
    for header in WRONG:
        with subtests.test(header[:40]):
            problem(app.test_client().get("/v1/jobs", headers={"Authorization": header}), 401, "no_key")


def test_a_key_counts_only_as_a_bearer(app, me):
    """Not as a parameter, a cookie, another scheme or another header."""
    client = app.test_client()
    client.set_cookie("Authorization", me.key)
    for response in (
        client.get(f"/v1/jobs?key={me.key}&access_token={me.key}"),
        client.get("/v1/jobs", headers={"Authorization": me.key}),
        client.get("/v1/jobs", headers={"Authorization": f"Token {me.key}"}),
        client.get("/v1/jobs", headers={"X-API-Key": me.key}),
    ):
        problem(response, 401, "no_key")


def test_the_word_bearer_may_be_written_in_any_case(app, me):
    """RFC 9110: the scheme's case does not matter."""
    assert app.test_client().get("/v1/jobs", headers={"Authorization": f"bearer {me.key}"}).status_code == 200


def test_a_key_of_the_right_prefix_and_a_wrong_secret_is_no_key(app, me):
    """The prefix is shown in lists; it opens nothing."""
    wrong = me.key[:12] + me.key[12:][::-1]
    problem(Person(app.test_client(), wrong).get("/v1/jobs"), 401, "no_key")


def test_a_revoked_key_opens_nothing_from_the_next_request_on(admin, me):
    """Revoking takes effect at once."""
    assert me.get("/v1/jobs").status_code == 200
    assert admin.ask("DELETE", f"/v1/keys/{me.id}").status_code == 200
    problem(me.get("/v1/jobs"), 401, "no_key")


def test_a_reader_sees_everybody_s_jobs_and_who_submits_their_own(reader, me, other, done):
    """Lists, a job, its results, events, thumbnails and numbers; for another who submits there is no such thing."""
    job = done["id"]
    image = me.get(f"/v1/jobs/{job}/results").json["results"][0]
    seen = (f"/v1/jobs/{job}", f"/v1/jobs/{job}?wait=1", f"/v1/jobs/{job}/results", f"/v1/jobs/{job}/diff/{job}")
    for path in (*seen, f"/v1/images/{image['image_id']}/thumbnail"):
        assert reader.get(path).status_code == 200, path
        assert other.get(path).status_code == 404, path
    assert reader.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "end"}).status_code == 204
    problem(other.get(f"/v1/jobs/{job}/events"), 404, "job_not_found")
    for path, name in (("/v1/jobs", "jobs"), ("/v1/results", "results"), ("/v1/stats", "stats")):
        for owner in ("", f"?owner={me.id}"):
            assert len(reader.get(path + owner).json[name]) == len(me.get(path).json[name]) > 0
            assert other.get(path + owner).json[name] == []
        assert reader.get(f"{path}?owner={other.id}").json[name] == []


def test_a_reader_learns_of_a_webhook_only_its_host(reader, me, admin):
    """The rest of an address may be a secret; its owner and admins see it whole."""
    url = "https://hooks.example.com:8443/services/T0/SECRET?key=SECRET"
    job = me.post("/v1/jobs", json={"open": True, "webhook": url}).json["id"]
    for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}?wait=0.1", "/v1/jobs"):
        for person in (me, admin):
            assert url in person.get(path).text
        assert "SECRET" not in reader.get(path).text
        assert "https://hooks.example.com:8443/" in reader.get(path).text


def test_a_reader_changes_nothing_anywhere(app, reader, me, db):
    """Each call that is not a GET is refused by the role, whatever it is about, and so is what is secret."""
    job = me.post("/v1/jobs", json={"open": True}).json["id"]
    for endpoint, path, method in every_route(app):
        changes = method in ("POST", "PUT", "PATCH", "DELETE")
        if changes and app.url_map.bind("").test(path, method):
            problem(reader.ask(method, path.replace(NOWHERE, job)), 403, "not_allowed")
            assert endpoint not in auth.OPEN
    for path in ("/v1/keys", "/v1/webhooks/secret"):
        problem(reader.get(path), 403, "not_allowed")


def test_a_reader_looks_and_changes_nothing(reader, db):
    """Role `read`: lists yes, jobs no, keys no."""
    assert reader.get("/v1/jobs").status_code == reader.get("/v1/results").status_code == 200
    for path in ("", f"/{NOWHERE}/images", f"/{NOWHERE}/seal", f"/{NOWHERE}/cancel"):
        detail = problem(reader.post(f"/v1/jobs{path}", data=making.picture()), 403, "not_allowed")
        assert "submit" in detail
        assert "read" in detail
    assert making.images(db) == {}


def test_keys_are_for_admins(me, reader):
    """Nobody else lists, makes or revokes one."""
    for person in (me, reader):
        problem(person.get("/v1/keys"), 403, "not_allowed")
        problem(person.post("/v1/keys", json={"name": "x", "role": "admin"}), 403, "not_allowed")
        problem(person.ask("DELETE", f"/v1/keys/{person.id}"), 403, "not_allowed")
        assert person.get("/v1/jobs").status_code == 200


def test_the_key_is_asked_for_before_the_body_is_read(app):
    """Whoever has no key does not make us read megabytes."""
    response = app.test_client().post("/v1/jobs", data=b"x" * 400_000, content_type="image/png")
    problem(response, 401, "no_key")


def test_no_answer_holds_a_key(app, admin, me):
    """A key is shown once, to whoever made it."""
    made = admin.post("/v1/keys", json={"name": "new", "role": tables.Role.READ}).json
    assert keys.FORM.fullmatch(made["key"])
    for path in ("/v1/keys", "/v1/jobs", "/readyz"):
        text = admin.get(path).text
        assert not any(key in text or key[12:] in text for key in (made["key"], me.key, admin.key))
