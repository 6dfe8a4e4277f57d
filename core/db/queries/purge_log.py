"""Purge log: which jobs were purged, when, and how much they held. The job's row stays and says so."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from core.db import tables
from core.db.expressions import API_KEYS, JOBS, is_job_of, row_value

COLUMNS = (
    "id",
    "api_key_id",
    "name",
    "model",
    "total",
    "bytes",
    "created_at",
    "finished_at",
    "purged_at",
    "purge_completed_at",
)
SORT_COLUMNS = (JOBS.c.purged_at, JOBS.c.id)


def get(conn: sa.Connection, job_id: str) -> sa.Row[Any]:
    """Return the record of a purged job."""
    return conn.execute(_query().where(JOBS.c.id == job_id)).one()


def _query() -> sa.Select[Any]:
    deleted_by = sa.select(API_KEYS.c.name).where(API_KEYS.c.id == JOBS.c.deleted_by).scalar_subquery()
    return sa.select(*(JOBS.c[name] for name in COLUMNS), deleted_by.label("deleted_by_name"))


def list_page(
    conn: sa.Connection, owner: str | None, *, limit: int, after: tuple[datetime, str] | None = None
) -> Sequence[sa.Row[Any]]:
    """List purged jobs, the latest first, from beyond a cursor; `owner` None sees every key's."""
    query = _query().where(sa.text(f"jobs.{tables.PURGED}"), *is_job_of(owner))
    if after is not None:
        query = query.where(sa.tuple_(*SORT_COLUMNS) < row_value(SORT_COLUMNS, after))
    return conn.execute(query.order_by(*[column.desc() for column in SORT_COLUMNS]).limit(limit)).all()
