"""Pieces of SQL that several questions share."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from jobs import tables

IMAGES: Any = tables.Image.__table__
# Written out, not bound: a partial index serves only a query whose text shows its condition.
QUEUED: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'queued'")
RUNNING: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'running'")


def insert(c: sa.Connection, table: Any) -> Any:
    """An INSERT that may say ON CONFLICT, which each dialect spells in its own class."""
    return sqlite.insert(table) if c.dialect.name == "sqlite" else postgresql.insert(table)
