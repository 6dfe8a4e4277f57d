"""Signing secrets: what webhooks are signed with, one for each key; while it is changed also the one before."""

from typing import Any

import sqlalchemy as sa

from jobs import clock, tables, webhooks
from jobs.store.sql import insert

SECRETS: Any = tables.SigningSecret.__table__
OVERLAP_SECONDS = 86_400.0


def secret(c: sa.Connection, owner: str) -> sa.Row[Any]:
    """The secret of a key's owner, made when it is first asked for."""
    new = insert(c.dialect.name, SECRETS).values(owner=owner, secret=webhooks.new_secret(), created_at=clock.now())
    c.execute(new.on_conflict_do_nothing(index_elements=["owner"]))
    return c.execute(_of(owner)).one()


def rotate(c: sa.Connection, owner: str) -> sa.Row[Any]:
    """Another secret for a key's owner; the one before signs beside it for a day, one from before that no more."""
    secret(c, owner)
    values = {"secret": webhooks.new_secret(), "created_at": clock.now()}
    values |= {"previous": SECRETS.c.secret, "previous_until": clock.now(OVERLAP_SECONDS)}
    c.execute(sa.update(SECRETS).where(SECRETS.c.owner == owner).values(values))
    return c.execute(_of(owner)).one()


def valid(c: sa.Connection, owner: str) -> list[str]:
    """The secrets that sign now, the newest first."""
    row = secret(c, owner)
    return [row.secret, row.previous] if row.overlaps else [row.secret]


def _of(owner: str) -> sa.Select[Any]:
    overlaps = sa.and_(SECRETS.c.previous.is_not(None), SECRETS.c.previous_until > clock.now())
    return sa.select(SECRETS, overlaps.label("overlaps")).where(SECRETS.c.owner == owner)
