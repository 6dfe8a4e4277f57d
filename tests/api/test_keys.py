from jobs.store import keys
from tests.api.asking import Person, problem

QUOTAS = {"images_per_minute", "bytes_per_minute", "open_images", "open_bytes"}
KEY = {"id", "name", "role", "prefix", "created_at", "expires_at", "revoked_at"} | QUOTAS


def test_an_admin_makes_a_key_and_its_holder_gets_in(app, admin):
    """201 with the key, which works from then on with its role."""
    response = admin.post("/v1/keys", json={"name": "Ann 🍣", "role": "submit"})
    assert response.status_code == 201
    made = response.json
    assert set(made) == KEY | {"key"}
    assert (made["name"], made["role"], made["revoked_at"]) == ("Ann 🍣", "submit", None)
    assert made["key"].startswith(f"sb_{made['prefix']}_")
    holder = Person(app.test_client(), made["key"])
    assert holder.post("/v1/jobs", json={"open": True}).status_code == 202
    problem(holder.get("/v1/keys"), 403, "not_allowed")


def test_keys_are_listed_without_the_keys(admin, me):
    """Who there is, and nothing that opens a door."""
    listed = admin.get("/v1/keys").json["keys"]
    assert {key["name"] for key in listed} == {"admin", "me"}
    assert all(set(key) - {"last_used_at"} == KEY for key in listed)


def test_revoking_is_idempotent_to_the_moment(admin, me):
    """Again the same answer."""
    first = admin.ask("DELETE", f"/v1/keys/{me.id}")
    assert first.status_code == 200
    assert first.json["revoked_at"] is not None
    assert admin.ask("DELETE", f"/v1/keys/{me.id}").json == first.json


def test_a_key_that_is_not_there_is_not_found(admin, subtests):
    """404, whatever the id looks like."""
    for id_ in ("00000000-0000-7000-8000-000000000000", "x", "1", "%00", "'", "a" * 5000):
        with subtests.test(id_[:40]):
            problem(admin.ask("DELETE", f"/v1/keys/{id_}"), 404, "key_not_found")


BODIES = ["", "{", "[]", "null", '"x"', "{}", '{"name": "x"}', '{"role": "read"}', '{"name": "", "role": "read"}']
BODIES += ['{"name": "x", "role": "root"}', '{"name": "x", "role": null}', '{"name": 1, "role": "read"}']
BODIES += ['{"name": "x", "role": ["read"]}', '{"name": "x", "role": {}}', "[" * 100_000, '{"name":' * 30_000]
BODIES += [f'{{"name": "{"x" * 256}", "role": "read"}}', '{"name": "\\u0000", "role": "read"}']
BODIES += ['{"name": "\\ud800", "role": "read"}', '{"name": "a\\u001b[31m", "role": "read"}']


def test_a_malformed_key_order_is_refused(admin, subtests):
    """422, and one sentence that says how it is done."""
    for body in BODIES:
        with subtests.test(body[:50]):
            response = admin.post("/v1/keys", data=body, content_type="application/json")
            assert "name" in problem(response, 422, "bad_parameter")
    assert {key["name"] for key in admin.get("/v1/keys").json["keys"]} == {"admin"}


def test_a_key_order_must_be_json(admin):
    """A form is no order."""
    problem(admin.post("/v1/keys", data={"name": "x", "role": "read"}), 422, "bad_parameter")


def test_a_key_is_made_with_limits_and_changed(admin):
    """What is not given is the settings'; null gives it back to them; what is not named stays."""
    wanted = {"name": "x", "role": "submit", "images_per_minute": 600, "open_bytes": 0.0, "expires_in": 3600}
    made = admin.post("/v1/keys", json=wanted).json
    assert (made["images_per_minute"], made["open_bytes"], made["open_images"]) == (600, 0, None)
    assert made["expires_at"] > made["created_at"]
    path = f"/v1/keys/{made['id']}"
    changes = {"open_images": 5, "images_per_minute": None, "name": "y"}
    changed = admin.ask("PATCH", path, json=changes).json
    assert changed == {**{name: made[name] for name in KEY}, **changes}
    assert admin.ask("PATCH", path, json={"expires_in": None}).json["expires_at"] is None
    assert admin.ask("PATCH", path, json={}).json["open_images"] == 5
    problem(admin.ask("PATCH", "/v1/keys/00000000-0000-7000-8000-000000000000", json={}), 404, "key_not_found")


LIMITS = [{"images_per_minute": -1}, {"images_per_minute": "6"}, {"open_bytes": 1.5}, {"open_images": 10**16}]
LIMITS += [{"expires_in": 0}, {"expires_in": "90d"}, {"expires_in": 1e12}, {"open_images": True}, {"name": ""}]


def test_malformed_limits_are_refused(admin, me, subtests):
    """422, and a sentence that names the field; nothing is changed."""
    before = admin.get("/v1/keys").json
    for wanted in [*LIMITS, {"name": None}]:
        with subtests.test(str(wanted)):
            response = admin.ask("PATCH", f"/v1/keys/{me.id}", json=wanted)
            assert next(iter(wanted)) in problem(response, 422, "bad_parameter")
            if wanted != {"name": None}:
                made = admin.post("/v1/keys", json={"name": "x", "role": "read", **wanted})
                problem(made, 422, "bad_parameter")
    assert admin.get("/v1/keys").json == before


def test_only_admins_change_keys(me):
    """Nobody gives themselves more."""
    problem(me.ask("PATCH", f"/v1/keys/{me.id}", json={"open_images": 0}), 403, "not_allowed")


def test_a_key_whose_time_is_over_is_told_so(app, admin, db):
    """401 with a code of its own, for its holder only; prolonged, it is good again."""
    made = admin.post("/v1/keys", json={"name": "guest", "role": "read", "expires_in": 3600}).json
    guest = Person(app.test_client(), made["key"])
    assert guest.get("/v1/jobs").status_code == 200
    db.write(keys.change, made["id"], {"expires_in": -1.0})
    app.extensions["sortbelt"].door.doubt(made["id"])
    response = guest.get("/v1/jobs")
    assert "ask an admin" in problem(response, 401, "key_expired")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    wrong = Person(app.test_client(), made["key"][:12] + made["key"][12:][::-1])
    problem(wrong.get("/v1/jobs"), 401, "no_key")
    admin.ask("PATCH", f"/v1/keys/{made['id']}", json={"expires_in": 60})
    assert guest.get("/v1/jobs").status_code == 200
