from tests.api.asking import Person, problem

KEY = {"id", "name", "role", "prefix", "created_at", "revoked_at"}


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
