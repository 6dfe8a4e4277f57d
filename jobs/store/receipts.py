"""Receipts: that a job was purged, when, and how much of it there was. Its row stays and says so."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobs import tables
from jobs.store.sql import JOBS

COLUMNS = ("id", "owner", "model", "total", "bytes", "created_at", "finished_at", "purged_at", "emptied_at")


class Place(NamedTuple):
    """Where a page ended."""

    purged_at: datetime
    job_id: str


def page(c: sa.Connection, owner: str | None, *, limit: int, after: Place | None = None) -> Sequence[sa.Row[Any]]:
    """Purged jobs, those that went last first, from beyond a place; `owner` None sees everybody's."""
    query = sa.select(*(JOBS.c[name] for name in COLUMNS)).where(sa.text(f"jobs.{tables.PURGED}"))
    if owner is not None:
        query = query.where(JOBS.c.owner == owner)
    if after is not None:
        place = sa.tuple_(sa.literal(after.purged_at, tables.Timestamp()), sa.literal(after.job_id, JOBS.c.id.type))
        query = query.where(sa.tuple_(JOBS.c.purged_at, JOBS.c.id) < place)
    return c.execute(query.order_by(JOBS.c.purged_at.desc(), JOBS.c.id.desc()).limit(limit)).all()
