from core.db.queries import api_keys
from tests.support.api_client import ApiClient, assert_problem

QUOTAS = {"images_per_minute", "bytes_per_minute", "open_images", "open_bytes", "work_seconds_per_minute"}
KEY = {"id", "name", "role", "prefix", "created_at", "expires_at", "revoked_at"} | QUOTAS


def test_an_admin_creates_a_key_that_works(app, admin_client):
    """201 with the key, which has its role from then on."""
    response = admin_client.post("/v1/keys", json={"name": "Ann 🍣", "role": "submit"})
    assert response.status_code == 201
    made = response.json
    assert set(made) == KEY | {"key"}
    assert (made["name"], made["role"], made["revoked_at"]) == ("Ann 🍣", "submit", None)
    assert made["key"].startswith(f"sb_{made['prefix']}_")
    holder = ApiClient(app.test_client(), made["key"])
    assert holder.post("/v1/jobs", json={"open": True}).status_code == 202
    assert_problem(holder.get("/v1/keys"), 403, "not_allowed")


def test_two_valid_keys_have_different_names(admin_client):
    """409 for a name that is taken; the name of a revoked key is free again."""
    first, second = (admin_client.post("/v1/keys", json={"name": name, "role": "read"}) for name in ("a", "b"))
    again = {"name": "a", "role": "read"}
    assert "'a'" in assert_problem(admin_client.post("/v1/keys", json=again), 409, "key_name_taken")
    renamed = admin_client.request("PATCH", f"/v1/keys/{second.json['id']}", json={"name": "a"})
    assert_problem(renamed, 409, "key_name_taken")
    assert admin_client.request("PATCH", f"/v1/keys/{first.json['id']}", json={"name": "a"}).status_code == 200
    admin_client.request("DELETE", f"/v1/keys/{first.json['id']}")
    assert admin_client.post("/v1/keys", json=again).status_code == 201


def test_keys_are_listed_without_their_secrets(admin_client, submit_client):
    """Their names and roles only."""
    listed = admin_client.get("/v1/keys").json["keys"]
    assert {key["name"] for key in listed} == {"admin", "me"}
    assert all(set(key) - {"last_used_at"} == KEY for key in listed)


def test_revoking_is_idempotent(admin_client, submit_client):
    """The same response, with the same timestamp."""
    first = admin_client.request("DELETE", f"/v1/keys/{submit_client.id}")
    assert first.status_code == 200
    assert first.json["revoked_at"] is not None
    assert admin_client.request("DELETE", f"/v1/keys/{submit_client.id}").json == first.json


def test_a_missing_key_is_not_found(admin_client, subtests):
    """404 for any id."""
    for id_ in ("00000000-0000-7000-8000-000000000000", "x", "1", "%00", "'", "a" * 5000):
        with subtests.test(id_[:40]):
            assert_problem(admin_client.request("DELETE", f"/v1/keys/{id_}"), 404, "key_not_found")


BODIES = ["", "{", "[]", "null", '"x"', "{}", '{"name": "x"}', '{"role": "read"}', '{"name": "", "role": "read"}']
BODIES += ['{"name": "x", "role": "root"}', '{"name": "x", "role": null}', '{"name": 1, "role": "read"}']
BODIES += ['{"name": "x", "role": ["read"]}', '{"name": "x", "role": {}}', "[" * 100_000, '{"name":' * 30_000]
BODIES += [f'{{"name": "{"x" * 256}", "role": "read"}}', '{"name": "\\u0000", "role": "read"}']
BODIES += ['{"name": "\\ud800", "role": "read"}', '{"name": "a\\u001b[31m", "role": "read"}']


def test_a_malformed_key_is_rejected(admin_client, subtests):
    """422 with a sentence that gives an example."""
    for body in BODIES:
        with subtests.test(body[:50]):
            response = admin_client.post("/v1/keys", data=body, content_type="application/json")
            assert "name" in assert_problem(response, 422, "bad_parameter")
    assert {key["name"] for key in admin_client.get("/v1/keys").json["keys"]} == {"admin"}


def test_a_key_is_created_from_json(admin_client):
    """A form is rejected."""
    assert_problem(admin_client.post("/v1/keys", data={"name": "x", "role": "read"}), 422, "bad_parameter")


def test_a_key_is_created_with_quotas_and_changed(admin_client):
    """Absent fields are the settings' or stay as they are; null resets them."""
    expected = {"name": "x", "role": "submit", "images_per_minute": 600, "open_bytes": 0.0, "expires_in": 3600}
    made = admin_client.post("/v1/keys", json=expected).json
    assert (made["images_per_minute"], made["open_bytes"], made["open_images"]) == (600, 0, None)
    assert made["expires_at"] > made["created_at"]
    path = f"/v1/keys/{made['id']}"
    changes = {"open_images": 5, "images_per_minute": None, "name": "y"}
    changed = admin_client.request("PATCH", path, json=changes).json
    assert changed == {**{name: made[name] for name in KEY}, **changes}
    assert admin_client.request("PATCH", path, json={"expires_in": None}).json["expires_at"] is None
    assert admin_client.request("PATCH", path, json={}).json["open_images"] == 5
    assert_problem(
        admin_client.request("PATCH", "/v1/keys/00000000-0000-7000-8000-000000000000", json={}), 404, "key_not_found"
    )


LIMITS = [{"images_per_minute": -1}, {"images_per_minute": "6"}, {"open_bytes": 1.5}, {"open_images": 10**16}]
LIMITS += [{"expires_in": 0}, {"expires_in": "90d"}, {"expires_in": 1e12}, {"open_images": True}, {"name": ""}]


def test_malformed_quotas_are_rejected(admin_client, submit_client, subtests):
    """422 with the name of the field; nothing changes."""
    before = admin_client.get("/v1/keys").json
    for expected in [*LIMITS, {"name": None}]:
        with subtests.test(str(expected)):
            response = admin_client.request("PATCH", f"/v1/keys/{submit_client.id}", json=expected)
            assert next(iter(expected)) in assert_problem(response, 422, "bad_parameter")
            if expected != {"name": None}:
                made = admin_client.post("/v1/keys", json={"name": "x", "role": "read", **expected})
                assert_problem(made, 422, "bad_parameter")
    assert admin_client.get("/v1/keys").json == before


def test_only_admins_change_keys(submit_client):
    """A caller cannot raise its own quotas."""
    assert_problem(
        submit_client.request("PATCH", f"/v1/keys/{submit_client.id}", json={"open_images": 0}), 403, "not_allowed"
    )


def test_an_expired_key_has_its_own_code(app, admin_client, db):
    """401 with the code `key_expired`, for this key only; after an extension it is valid again."""
    made = admin_client.post("/v1/keys", json={"name": "temporary", "role": "read", "expires_in": 3600}).json
    new_client = ApiClient(app.test_client(), made["key"])
    assert new_client.get("/v1/jobs").status_code == 200
    db.write(api_keys.update, made["id"], {"expires_in": -1.0})
    app.extensions["sortbelt"].auth_cache.invalidate(made["id"])
    response = new_client.get("/v1/jobs")
    assert "ask an admin" in assert_problem(response, 401, "key_expired")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    wrong = ApiClient(app.test_client(), made["key"][:12] + made["key"][12:][::-1])
    assert_problem(wrong.get("/v1/jobs"), 401, "no_key")
    admin_client.request("PATCH", f"/v1/keys/{made['id']}", json={"expires_in": 60})
    assert new_client.get("/v1/jobs").status_code == 200
