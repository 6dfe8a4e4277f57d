"""Webhook secrets: one for each API key, and during a rotation also the one before."""

from typing import Any

import sqlalchemy as sa

from core.db import clock, tables
from core.db.expressions import insert
from core.webhooks import signing

SECRETS: Any = tables.WebhookSecret.__table__
OVERLAP_SECONDS = 86_400.0


def get_or_create(conn: sa.Connection, owner: str) -> sa.Row[Any]:
    """Return the secret of a key, created at the first call."""
    statement = insert(conn.dialect.name, SECRETS).values(
        api_key_id=owner, secret=signing.new_secret(), created_at=clock.now()
    )
    conn.execute(statement.on_conflict_do_nothing(index_elements=["api_key_id"]))
    return conn.execute(_secret_query(owner)).one()


def rotate(conn: sa.Connection, owner: str) -> sa.Row[Any]:
    """Create a new secret for a key; the previous one stays valid beside it for a day, an older one does not."""
    get_or_create(conn, owner)
    values = {"secret": signing.new_secret(), "created_at": clock.now()}
    values |= {"previous_secret": SECRETS.c.secret, "previous_expires_at": clock.now(OVERLAP_SECONDS)}
    conn.execute(sa.update(SECRETS).where(SECRETS.c.api_key_id == owner).values(values))
    return conn.execute(_secret_query(owner)).one()


def valid_secrets(conn: sa.Connection, owner: str) -> list[str]:
    """Return the secrets that sign now, the newest first."""
    row = get_or_create(conn, owner)
    return [row.secret, row.previous_secret] if row.has_previous else [row.secret]


def _secret_query(owner: str) -> sa.Select[Any]:
    has_previous = sa.and_(SECRETS.c.previous_secret.is_not(None), SECRETS.c.previous_expires_at > clock.now())
    return sa.select(SECRETS, has_previous.label("has_previous")).where(SECRETS.c.api_key_id == owner)
