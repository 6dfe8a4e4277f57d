"""API keys: only a digest of each is kept. The secret part has 256 random bits, so one SHA-256 is enough."""

import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from jobs import clock, errors, tables
from jobs.store import quotas
from jobs.store.sql import KEYS, insert

FORM = re.compile(r"sb_([0-9a-f]{8})_[A-Za-z0-9_-]{32,64}")


@dataclass(frozen=True)
class Caller:
    """Who is asking."""

    id: str
    name: str
    role: tables.Role
    limits: quotas.Quotas = quotas.NONE
    seconds: float = float("inf")
    """For how long the key is valid yet."""

    @property
    def is_admin(self) -> bool:
        """Whether this caller may do everything."""
        return self.role is tables.Role.ADMIN

    @property
    def sees(self) -> str | None:
        """Whose jobs this caller sees: who orders their own; None, for who looks and for admins, is everybody's."""
        return self.id if self.role is tables.Role.SUBMIT else None

    @property
    def learns_addresses(self) -> bool:
        """Whether this caller learns the whole addresses of webhooks, which may hold secrets; else only their hosts."""
        return self.role is not tables.Role.READ

    def may(self, role: tables.Role) -> bool:
        """Whether this caller may do what `role` may."""
        ranks = list(tables.Role)
        return ranks.index(self.role) >= ranks.index(role)


def make() -> str:
    """A new key."""
    return f"sb_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def create(
    c: sa.Connection,
    name: str,
    role: tables.Role,
    key: str,
    *,
    expires_in: float | None = None,
    own: quotas.Quotas = quotas.NONE,
) -> sa.Row[Any]:
    """Make a key valid, for ever or for so many seconds.

    Raises:
        errors.BadParameter: the key is not of the form that `make` gives.
    """
    values = _row(name, role, key) | vars(own) | {"expires_at": _in(expires_in)}
    return c.execute(sa.insert(KEYS).values(values).returning(KEYS)).one()


def change(c: sa.Connection, id_: str, values: Mapping[str, Any]) -> sa.Row[Any]:
    """Give a key another name, end (`expires_in`, in seconds) or quotas; what is not among the values stays.

    Raises:
        errors.KeyNotFound: there is no such key.
    """
    values = dict(values)
    if "expires_in" in values:
        values["expires_at"] = _in(values.pop("expires_in"))
    for unit in quotas.UNITS:
        if f"{unit}_per_minute" in values:
            values[f"{unit}_left"] = None  # a new measure begins with a whole minute
    # Something has to be set: to what it is.
    changed = sa.update(KEYS).where(KEYS.c.id == id_).values({"name": KEYS.c.name, **values})
    return _there(c.execute(changed.returning(KEYS)).one_or_none())


def ensure(c: sa.Connection, name: str, role: tables.Role, key: str) -> None:
    """Make a key valid unless it is already; safe however many do it at once.

    Raises:
        errors.BadParameter: the key is malformed, or was revoked, or its prefix is that of another.
    """
    c.execute(
        insert(c.dialect.name, KEYS).values(_row(name, role, key)).on_conflict_do_nothing(index_elements=["prefix"])
    )
    if caller(c, key) is None:
        raise errors.BadParameter("The admin key was revoked, or another key begins like it; make a new one.")


@functools.cache
def _caller() -> sa.Select[Any]:
    return sa.select(KEYS, clock.now().label("now")).where(KEYS.c.prefix == sa.bindparam("prefix"))


def caller(c: sa.Connection, key: str) -> Caller | None:
    """Who holds this key; None if nobody does, or no more.

    Raises:
        errors.KeyExpired: its time is over; only its holder is told so.
    """
    form = FORM.fullmatch(key)
    digest = _digest(key)
    row = c.execute(_caller(), {"prefix": form[1] if form else ""}).one_or_none()
    valid = hmac.compare_digest(digest, row.digest if row else "0" * 64)
    if row is None or not valid or row.revoked_at is not None:
        return None
    seconds = float("inf") if row.expires_at is None else (row.expires_at - row.now) / timedelta(seconds=1)
    if seconds <= 0:
        raise errors.KeyExpired
    return Caller(row.id, row.name, tables.Role(row.role), quotas.Quotas.of(row), seconds)


def good(c: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Those of these keys, by id, that are valid."""
    query = sa.select(KEYS.c.id).where(KEYS.c.id.in_(list(ids)), KEYS.c.revoked_at.is_(None), ~_expired())
    return set(c.execute(query).scalars())


def page(c: sa.Connection) -> Sequence[sa.Row[Any]]:
    """All keys, oldest first."""
    return c.execute(sa.select(KEYS).order_by(KEYS.c.id)).all()


def revoke(c: sa.Connection, id_: str) -> sa.Row[Any]:
    """End a key; again changes nothing.

    Raises:
        errors.KeyNotFound: there is no such key.
    """
    moment = sa.func.coalesce(KEYS.c.revoked_at, clock.now())
    ended = sa.update(KEYS).where(KEYS.c.id == id_).values(revoked_at=moment).returning(KEYS)
    return _there(c.execute(ended).one_or_none())


def _there(row: sa.Row[Any] | None) -> sa.Row[Any]:
    if row is None:
        raise errors.KeyNotFound
    return row


def _expired() -> sa.ColumnElement[bool]:
    return sa.and_(KEYS.c.expires_at.is_not(None), KEYS.c.expires_at <= clock.now())


def _in(seconds: float | None) -> Any:
    return None if seconds is None else clock.now(seconds)


def _row(name: str, role: tables.Role, key: str) -> dict[str, Any]:
    form = FORM.fullmatch(key)
    if form is None:
        raise errors.BadParameter("A key reads sb_, 8 hexadecimal digits, _, and 32 to 64 letters, digits, - or _.")
    return {
        "id": str(uuids.uuid7()),
        "name": name,
        "role": role.value,
        "prefix": form[1],
        "digest": _digest(key),
        "created_at": clock.now(),
    }


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
