"""Addresses that send wrong keys are throttled; valid keys at these addresses are not."""

import pytest

from api import app as apps
from api.http import auth
from api.services import auth_cache
from core import enums
from core.db.queries import api_keys
from tests.support import modules
from tests.support.api_client import ApiClient, assert_problem


@pytest.fixture
def throttled_app(app_settings):
    """An app that allows an address three wrong keys per minute."""
    created = apps.create_app(app_settings.model_copy(update={"max_failed_auth_per_minute": 3}))
    yield created
    created.extensions["sortbelt"].db.close()


def request_with(app, key, address="203.0.113.7"):
    """Send one request with a key from an address."""
    headers = {"Authorization": f"Bearer {key}"}
    return app.test_client().get("/v1/jobs", headers=headers, environ_base={"REMOTE_ADDR": address})


def test_an_address_with_too_many_wrong_keys_is_blocked(throttled_app, submit_client):
    """429 with Retry-After, also for an unknown valid key; other addresses are not affected."""
    for _ in range(3):
        assert_problem(request_with(throttled_app, api_keys.generate()), 401, "no_key")
    response = request_with(throttled_app, api_keys.generate())
    assert_problem(response, 429, "too_many_bad_keys")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert_problem(request_with(throttled_app, submit_client.key), 429, "too_many_bad_keys")
    assert request_with(throttled_app, submit_client.key, "203.0.113.8").status_code == 200


def test_valid_keys_at_a_blocked_address_still_work(throttled_app, submit_client, db):
    """Behind a proxy all callers share an address: a key works until it is revoked."""
    assert request_with(throttled_app, submit_client.key).status_code == 200
    for _ in range(5):
        request_with(throttled_app, "sb_wrong")
    assert request_with(throttled_app, submit_client.key).status_code == 200
    db.write(api_keys.revoke, submit_client.id)
    throttled_app.extensions["sortbelt"].auth_cache.invalidate(submit_client.id)
    assert_problem(request_with(throttled_app, submit_client.key), 401, "no_key")
    assert_problem(request_with(throttled_app, submit_client.key), 429, "too_many_bad_keys")


def test_a_valid_key_is_cached(throttled_app, submit_client, db, monkeypatch):
    """A key that another process revokes is valid here for ten seconds more, and not longer."""
    now = modules.set_clock(monkeypatch, auth_cache)
    assert request_with(throttled_app, submit_client.key).status_code == 200
    db.write(api_keys.revoke, submit_client.id)
    now[0] += 9.9
    assert request_with(throttled_app, submit_client.key).status_code == 200
    now[0] += 0.1
    assert_problem(request_with(throttled_app, submit_client.key), 401, "no_key")


def test_a_key_is_not_cached_beyond_its_expiry(throttled_app, db, monkeypatch):
    """One that expires in a second is looked up again then."""
    now, key = modules.set_clock(monkeypatch, auth_cache), api_keys.generate()
    row = db.write(api_keys.create, "temporary", enums.Role.SUBMIT, key, expires_in=1)
    assert request_with(throttled_app, key).status_code == 200
    db.write(api_keys.update, row.id, {"expires_in": -1.0})
    now[0] += 1
    assert_problem(request_with(throttled_app, key), 401, "key_expired")


def test_a_key_that_was_valid_is_known_after_the_cache_has_forgotten_it(monkeypatch):
    """It takes turns by itself, and not with the address that all callers behind a proxy share; a revoked one does."""
    now = modules.set_clock(monkeypatch, auth_cache)
    item = auth_cache.AuthCache(2)
    assert not item.is_known("x")
    item.put("x", api_keys.Caller("1", "x", enums.Role.SUBMIT))
    now[0] += 3600
    assert item.get("x") is None
    assert item.is_known("x")
    item.record_failure("a", "x")
    assert not item.is_known("x")


def test_a_missing_key_is_not_counted(throttled_app):
    """Rejecting it costs nothing."""
    for _ in range(9):
        assert_problem(ApiClient(throttled_app.test_client(), None).get("/v1/jobs"), 401, "no_key")


def test_an_address_is_unblocked_after_a_minute(monkeypatch):
    """And the count begins again; a limit of 0 is unlimited."""
    now = modules.set_clock(monkeypatch, auth_cache)
    item, open_ = auth_cache.AuthCache(2), auth_cache.AuthCache(0)
    for _ in range(2):
        item.record_failure("a", "x")
        open_.record_failure("a", "x")
    assert item.blocked_for("a", "y") == 60
    assert item.blocked_for("b", "y") is None
    assert open_.blocked_for("a", "y") is None
    now[0] += 61
    assert item.blocked_for("a", "y") is None
    item.record_failure("a", "x")
    assert item.blocked_for("a", "y") is None


def test_the_cache_is_bounded(monkeypatch):
    """However many addresses come."""
    monkeypatch.setattr(auth_cache, "MAX_ENTRIES", 10)
    item = auth_cache.AuthCache(1)
    for number in range(50):
        item.record_failure(str(number), "x")
        item.put(str(number), api_keys.Caller(str(number), "x", enums.Role.SUBMIT))
    assert (len(item._failures), len(item._callers)) == (10, 10)


def test_only_valid_keys_may_have_large_bodies_buffered(throttled_app, submit_client, db):
    """Not a wrong key, not an expired one, not a blocked address."""
    parts = throttled_app.extensions["sortbelt"]
    assert auth.is_authorized(parts, "a", submit_client.key)
    assert not auth.is_authorized(parts, "a", api_keys.generate())
    late = api_keys.generate()
    db.write(api_keys.create, "late", enums.Role.SUBMIT, late, expires_in=0)
    assert not auth.is_authorized(parts, "a", late)
    for _ in range(3):
        request_with(throttled_app, "x", "a")
    other = api_keys.generate()
    db.write(api_keys.create, "other", enums.Role.SUBMIT, other)
    assert not auth.is_authorized(parts, "a", other)
    assert auth.is_authorized(parts, "b", other)
