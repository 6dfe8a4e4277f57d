"""API keys: only their digests are stored. The secret part has 256 random bits, so one SHA-256 is enough."""

import functools
import hashlib
import hmac
import itertools
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import enums, errors
from core.db import clock
from core.db.expressions import API_KEYS, insert
from core.db.queries import quotas

KEY_PATTERN = re.compile(r"sb_([0-9a-f]{8})_[A-Za-z0-9_-]{32,64}")
ROLE_RANKS = {role: rank for rank, role in enumerate(enums.Role)}


@dataclass(frozen=True)
class Caller:
    """The holder of a valid key."""

    id: str
    name: str
    role: enums.Role
    key_quotas: quotas.Quotas = quotas.UNSET
    seconds_valid: float = float("inf")
    """The seconds until the key expires."""

    @property
    def is_admin(self) -> bool:
        """Whether this caller may do everything."""
        return self.role is enums.Role.ADMIN

    @property
    def visible_owner(self) -> str | None:
        """The owner whose jobs this caller sees: itself for a submitter; None, every key, for all other roles."""
        return self.id if self.role is enums.Role.SUBMIT else None

    @property
    def deletable_owner(self) -> str | None:
        """The owner whose jobs this caller may delete: itself; None, every key, for an admin."""
        return None if self.is_admin else self.id

    @property
    def can_see_webhook_urls(self) -> bool:
        """Whether this caller sees full webhook URLs, which may hold secrets, or only their hosts."""
        return self.has_role(enums.Role.SUBMIT)

    def has_role(self, role: enums.Role) -> bool:
        """Return whether this caller may do what `role` may."""
        return ROLE_RANKS[self.role] >= ROLE_RANKS[role]


def generate() -> str:
    """Generate a new key."""
    return f"sb_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def create(
    conn: sa.Connection,
    name: str,
    role: enums.Role,
    key: str,
    *,
    expires_in: float | None = None,
    key_quotas: quotas.Quotas = quotas.UNSET,
) -> sa.Row[Any]:
    """Create a key, without end or for so many seconds.

    Raises:
        errors.KeyNameTaken: another valid key has the name.
        errors.BadParameter: the key does not have the form that `generate` gives it.
    """
    values = _key_row(name, role, key) | asdict(key_quotas) | {"expires_at": _expiry(expires_in)}
    statement = insert(conn.dialect.name, API_KEYS).values(values)
    statement = statement.on_conflict_do_nothing(index_elements=["name"], index_where=API_KEYS.c.revoked_at.is_(None))
    row = conn.execute(statement.returning(API_KEYS)).one_or_none()
    if row is None:
        raise _name_taken(name)
    return row


def update(conn: sa.Connection, id_: str, values: Mapping[str, Any]) -> sa.Row[Any]:
    """Change a key's name, expiry (`expires_in`, in seconds) or quotas; what is not in `values` stays.

    Raises:
        errors.KeyNotFound: the key does not exist.
        errors.KeyNameTaken: another valid key has the name.
    """
    values = dict(values)
    if "name" in values and _is_name_taken(conn, values["name"], except_id=id_):
        raise _name_taken(values["name"])
    if "expires_in" in values:
        values["expires_at"] = _expiry(values.pop("expires_in"))
    for limit, tokens in quotas.RATE_COLUMNS.values():
        if limit in values:
            values[tokens] = None  # a new rate begins with a full bucket
    # An UPDATE must set something.
    statement = sa.update(API_KEYS).where(API_KEYS.c.id == id_).values({"name": API_KEYS.c.name, **values})
    return _require_row(conn.execute(statement.returning(API_KEYS)).one_or_none(), id_)


def ensure(conn: sa.Connection, name: str, role: enums.Role, key: str) -> None:
    """Create a key unless it exists; safe when several processes do it at once.

    If another valid key has the name, it gets a number, as in `admin (2)`.

    Raises:
        errors.BadParameter: the key is malformed, or was revoked, or its prefix is that of another.
    """
    numbered = (name if number == 1 else f"{name} ({number})" for number in itertools.count(1))
    free_name = next(candidate for candidate in numbered if not _is_name_taken(conn, candidate))
    conn.execute(insert(conn.dialect.name, API_KEYS).values(_key_row(free_name, role, key)).on_conflict_do_nothing())
    if authenticate(conn, key) is None:
        raise errors.BadParameter("The admin key was revoked, or another key has its prefix; generate a new one.")


@functools.cache
def _select_by_prefix() -> sa.Select[Any]:
    return sa.select(API_KEYS, clock.now().label("now")).where(API_KEYS.c.prefix == sa.bindparam("prefix"))


def authenticate(conn: sa.Connection, key: str) -> Caller | None:
    """Return the holder of this key; None if it is unknown or revoked.

    Raises:
        errors.KeyExpired: the key has expired; only its holder learns that.
    """
    match = KEY_PATTERN.fullmatch(key)
    digest = _digest(key)
    row = conn.execute(_select_by_prefix(), {"prefix": match[1] if match else ""}).one_or_none()
    is_valid = hmac.compare_digest(digest, row.digest if row else "0" * 64)
    if row is None or not is_valid or row.revoked_at is not None:
        return None
    seconds_valid = float("inf") if row.expires_at is None else (row.expires_at - row.now) / timedelta(seconds=1)
    if seconds_valid <= 0:
        raise errors.KeyExpired
    return Caller(row.id, row.name, enums.Role(row.role), quotas.Quotas.from_row(row), seconds_valid)


def valid_ids(conn: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Return those of these keys, by id, that are valid."""
    query = sa.select(API_KEYS.c.id).where(
        API_KEYS.c.id.in_(list(ids)), API_KEYS.c.revoked_at.is_(None), ~_is_expired()
    )
    return set(conn.execute(query).scalars())


def find_valid(conn: sa.Connection, id_: str) -> Caller | None:
    """Return the holder of the key with this id; None if it is unknown, revoked or expired."""
    query = sa.select(API_KEYS).where(API_KEYS.c.id == id_, API_KEYS.c.revoked_at.is_(None), ~_is_expired())
    row = conn.execute(query).one_or_none()
    return Caller(row.id, row.name, enums.Role(row.role)) if row is not None else None


def list_all(conn: sa.Connection) -> Sequence[sa.Row[Any]]:
    """List all keys, oldest first."""
    return conn.execute(sa.select(API_KEYS).order_by(API_KEYS.c.id)).all()


def revoke(conn: sa.Connection, id_: str) -> sa.Row[Any]:
    """Revoke a key; revoking it again changes nothing.

    Raises:
        errors.KeyNotFound: the key does not exist.
    """
    revoked_at = sa.func.coalesce(API_KEYS.c.revoked_at, clock.now())
    statement = sa.update(API_KEYS).where(API_KEYS.c.id == id_).values(revoked_at=revoked_at).returning(API_KEYS)
    return _require_row(conn.execute(statement).one_or_none(), id_)


def resolve_owner(conn: sa.Connection, name_or_id: str) -> str:
    """Return the id of the key with this name or id: of several of one name the valid one, else the newest.

    Raises:
        errors.BadParameter: there is no such key; the message names those that exist.
    """
    is_match = sa.or_(API_KEYS.c.name == name_or_id, sa.cast(API_KEYS.c.id, sa.String) == name_or_id)
    order = (API_KEYS.c.revoked_at.is_not(None), API_KEYS.c.id.desc())
    id_ = conn.execute(sa.select(API_KEYS.c.id).where(is_match).order_by(*order).limit(1)).scalar()
    if id_ is None:
        names = conn.execute(sa.select(API_KEYS.c.name).distinct().order_by(API_KEYS.c.name)).scalars()
        raise errors.UnknownValue.of("owner", "key", name_or_id, names)
    return str(id_)


def _is_name_taken(conn: sa.Connection, name: str, except_id: str | None = None) -> bool:
    is_taken = (API_KEYS.c.name == name, API_KEYS.c.revoked_at.is_(None))
    id_ = conn.execute(sa.select(API_KEYS.c.id).where(*is_taken)).scalar()
    return id_ is not None and str(id_) != except_id


def _name_taken(name: str) -> errors.KeyNameTaken:
    return errors.KeyNameTaken(
        f"A valid key is named {name!r} already; choose another name, or revoke or rename that key first."
    )


def _require_row(row: sa.Row[Any] | None, key_id: str) -> sa.Row[Any]:
    if row is None:
        raise errors.KeyNotFound.of(key_id)
    return row


def _is_expired() -> sa.ColumnElement[bool]:
    return sa.and_(API_KEYS.c.expires_at.is_not(None), API_KEYS.c.expires_at <= clock.now())


def _expiry(seconds: float | None) -> Any:
    return None if seconds is None else clock.now(seconds)


def _key_row(name: str, role: enums.Role, key: str) -> dict[str, Any]:
    match = KEY_PATTERN.fullmatch(key)
    if match is None:
        raise errors.BadParameter(
            "A key consists of sb_, 8 hexadecimal digits, _, and 32 to 64 letters, digits, - or _; generate one."
        )
    return {
        "id": str(uuids.uuid7()),
        "name": name,
        "role": role.value,
        "prefix": match[1],
        "digest": _digest(key),
        "created_at": clock.now(),
    }


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
