"""Who tries wrong keys is turned away; who shares their address is not."""

import pytest

from api import app as apps
from api import auth, door
from jobs import tables
from jobs.store import keys
from tests.api.asking import Person, problem


@pytest.fixture
def wary(wanted):
    """A server that lets an address try three wrong keys a minute."""
    made = apps.create_app(wanted.model_copy(update={"max_bad_keys_per_minute": 3}))
    yield made
    made.extensions["sortbelt"].db.close()


def knock(app, key, address="203.0.113.7"):
    """One request with a key from an address."""
    headers = {"Authorization": f"Bearer {key}"}
    return app.test_client().get("/v1/jobs", headers=headers, environ_base={"REMOTE_ADDR": address})


def test_after_some_wrong_keys_the_address_is_turned_away(wary, me):
    """429 with Retry-After, also for a key that may be right; another address notices nothing."""
    for _ in range(3):
        problem(knock(wary, keys.make()), 401, "no_key")
    response = knock(wary, keys.make())
    problem(response, 429, "too_many_bad_keys")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    problem(knock(wary, me.key), 429, "too_many_bad_keys")
    assert knock(wary, me.key, "203.0.113.8").status_code == 200


def test_who_was_good_at_that_address_stays_so(wary, me, db):
    """Behind a proxy all have one address: whoever works there goes on, until their key is bad."""
    assert knock(wary, me.key).status_code == 200
    for _ in range(5):
        knock(wary, "sb_wrong")
    assert knock(wary, me.key).status_code == 200
    db.write(keys.revoke, me.id)
    wary.extensions["sortbelt"].door.doubt(me.id)
    problem(knock(wary, me.key), 401, "no_key")
    problem(knock(wary, me.key), 429, "too_many_bad_keys")


def test_a_good_key_is_not_looked_up_again_for_a_while(wary, me, db, monkeypatch):
    """What another process revokes is good here for ten seconds more, and not for one longer."""
    now = [1000.0]
    monkeypatch.setattr(door.time, "monotonic", lambda: now[0])
    assert knock(wary, me.key).status_code == 200
    db.write(keys.revoke, me.id)
    now[0] += 9.9
    assert knock(wary, me.key).status_code == 200
    now[0] += 0.1
    problem(knock(wary, me.key), 401, "no_key")


def test_a_key_is_trusted_no_longer_than_it_is_valid(wary, db, monkeypatch):
    """One that ends in a second is looked up again then."""
    now, key = [1000.0], keys.make()
    row = db.write(keys.create, "guest", tables.Role.SUBMIT, key, expires_in=1)
    monkeypatch.setattr(door.time, "monotonic", lambda: now[0])
    assert knock(wary, key).status_code == 200
    db.write(keys.change, row.id, {"expires_in": -1.0})
    now[0] += 1
    problem(knock(wary, key), 401, "key_expired")


def test_no_key_at_all_is_not_counted(wary):
    """It costs us nothing to say so."""
    for _ in range(9):
        problem(Person(wary.test_client(), None).get("/v1/jobs"), 401, "no_key")


def test_a_minute_later_the_door_is_open(monkeypatch):
    """And the count begins anew; 0 is no limit."""
    now = [1000.0]
    monkeypatch.setattr(door.time, "monotonic", lambda: now[0])
    one, open_ = door.Door(2), door.Door(0)
    for _ in range(2):
        one.bad("a", "x")
        open_.bad("a", "x")
    assert one.shut_seconds("a", "y") == 60
    assert one.shut_seconds("b", "y") is None
    assert open_.shut_seconds("a", "y") is None
    now[0] += 61
    assert one.shut_seconds("a", "y") is None
    one.bad("a", "x")
    assert one.shut_seconds("a", "y") is None


def test_the_door_forgets_the_oldest(monkeypatch):
    """However many addresses come, memory has an end."""
    monkeypatch.setattr(door, "MOST_KNOWN", 10)
    one = door.Door(1)
    for number in range(50):
        one.bad(str(number), "x")
        one.good(str(number), keys.Caller(str(number), "x", tables.Role.SUBMIT))
    assert (len(one._bad), len(one._good)) == (10, 10)


def test_only_who_is_good_is_trusted_with_room(wary, me, db):
    """Not a wrong key, not an expired one, not an address that is turned away."""
    parts = wary.extensions["sortbelt"]
    assert auth.is_trusted(parts, "a", me.key)
    assert not auth.is_trusted(parts, "a", keys.make())
    late = keys.make()
    db.write(keys.create, "late", tables.Role.SUBMIT, late, expires_in=0)
    assert not auth.is_trusted(parts, "a", late)
    for _ in range(3):
        knock(wary, "x", "a")
    other = keys.make()
    db.write(keys.create, "other", tables.Role.SUBMIT, other)
    assert not auth.is_trusted(parts, "a", other)
    assert auth.is_trusted(parts, "b", other)
