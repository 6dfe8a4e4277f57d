import concurrent.futures

import pytest
import sqlalchemy as sa

from core import enums, errors
from core.db.queries import api_keys

ROLES = list(enums.Role)
ADMIN = enums.Role.ADMIN


def test_a_made_key_is_long_and_of_the_form():
    """A key is never made twice, and holds 256 random bits."""
    made = {api_keys.generate() for _ in range(200)}
    assert len(made) == 200
    assert all(api_keys.KEY_PATTERN.fullmatch(key) and len(key) == 3 + 8 + 1 + 43 for key in made)


def test_a_key_identifies_its_holder(db):
    """Name, role and id come back, and nothing for the holder of none."""
    key = api_keys.generate()
    row = db.write(api_keys.create, "me", ADMIN, key)
    caller = db.read(api_keys.authenticate, key)
    assert (caller.id, caller.name, caller.role, caller.is_admin) == (row.id, "me", ADMIN, True)
    assert db.read(api_keys.authenticate, api_keys.generate()) is None


def test_the_key_itself_is_not_in_the_database(db):
    """A stolen table holds no usable key."""
    key = api_keys.generate()
    db.write(api_keys.create, "me", ADMIN, key)
    row = db.read(lambda c: c.execute(sa.select(api_keys.API_KEYS)).one())
    assert not any(key in str(value) or key[12:] in str(value) for value in row)


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "x",
        "sb_",
        "sb_00000000_",
        "sb_00000000_short",
        "sb_0000000g_" + "a" * 43,
        "sb_00000000_" + "a" * 65,
        "sb_00000000_" + "a" * 42 + "\n",
        " sb_00000000_" + "a" * 43,
        "sb_00000000_" + "ä" * 43,
        "\ud800",
        "\0" * 50,
    ],
)
def test_a_malformed_key_is_nobodys_and_cannot_be_made(db, malformed):
    """Neither an error nor a way in."""
    assert db.read(api_keys.authenticate, malformed) is None
    with pytest.raises(errors.BadParameter):
        db.write(api_keys.create, "me", ADMIN, malformed)


def test_a_key_with_the_right_prefix_and_a_wrong_secret_is_nobodys(db):
    """The prefix is public; it opens nothing."""
    key = api_keys.generate()
    db.write(api_keys.create, "me", ADMIN, key)
    assert db.read(api_keys.authenticate, key[:12] + "a" * 43) is None
    assert db.read(api_keys.authenticate, key + "a") is None
    assert db.read(api_keys.authenticate, key[:-1]) is None


def test_a_revoked_key_is_nobodys(db):
    """Revoking ends a key at once, and again changes nothing."""
    key = api_keys.generate()
    row = db.write(api_keys.create, "me", ADMIN, key)
    first = db.write(api_keys.revoke, row.id)
    assert first.revoked_at is not None
    assert db.read(api_keys.authenticate, key) is None
    assert db.write(api_keys.revoke, row.id) == first


def test_a_key_ends_by_the_clock_of_the_database(db):
    """One second before its end it is good, and after it neither opens nor is counted among the good."""
    key = api_keys.generate()
    row = db.write(api_keys.create, "temporary", ADMIN, key, expires_in=3600)
    assert db.read(api_keys.authenticate, key).id == row.id
    assert db.read(api_keys.valid_ids, [row.id]) == {row.id}
    db.write(api_keys.update, row.id, {"expires_in": 0})
    with pytest.raises(errors.KeyExpired):
        db.read(api_keys.authenticate, key)
    assert db.read(api_keys.valid_ids, [row.id]) == set()


def test_an_unknown_key_cannot_be_revoked(db):
    """The id of no key is said so."""
    with pytest.raises(errors.KeyNotFound):
        db.write(api_keys.revoke, "00000000-0000-7000-8000-000000000000")


def test_ensuring_makes_a_key_once(db):
    """Every start ensures the admin key; one row is enough."""
    key = api_keys.generate()
    for _ in range(3):
        db.write(api_keys.ensure, "admin", ADMIN, key)
    assert [row.name for row in db.read(api_keys.list_all)] == ["admin"]
    assert db.read(api_keys.authenticate, key).is_admin


def test_an_ensured_key_gets_a_number_if_its_name_is_taken(db):
    """A new admin key beside the old one has a name of its own."""
    for _ in range(3):
        db.write(api_keys.ensure, "admin", ADMIN, api_keys.generate())
    assert [row.name for row in db.read(api_keys.list_all)] == ["admin", "admin (2)", "admin (3)"]


def test_ensuring_at_once_makes_a_key_once(db):
    """Two servers that start together make one key between them, and neither falls over."""
    key = api_keys.generate()
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: db.write(api_keys.ensure, "admin", ADMIN, key), range(5)))
    assert len(db.read(api_keys.list_all)) == 1


def test_ensuring_a_revoked_key_does_not_bring_it_back(db):
    """An admin key that was revoked stays so, and is named in one sentence if anything is said."""
    key = api_keys.generate()
    db.write(api_keys.ensure, "admin", ADMIN, key)
    db.write(api_keys.revoke, db.read(api_keys.list_all)[0].id)
    try:
        db.write(api_keys.ensure, "admin", ADMIN, key)
    except errors.SortbeltError as error:
        assert "revoked" in error.detail  # noqa: PT017 (either is fine: silence, or our own sentence)
    assert db.read(api_keys.authenticate, key) is None


@pytest.mark.parametrize("has", ROLES)
@pytest.mark.parametrize("wants", ROLES)
def test_each_role_may_do_what_the_ones_before_it_may(has, wants):
    """Read < submit < admin."""
    assert api_keys.Caller("id", "name", has).has_role(wants) == (ROLES.index(has) >= ROLES.index(wants))


def test_keys_are_listed_oldest_first(db):
    """The list of keys is in the order in which they were made."""
    names = ["a", "b", "c"]
    for name in names:
        db.write(api_keys.create, name, enums.Role.READ, api_keys.generate())
    assert [row.name for row in db.read(api_keys.list_all)] == names
