"""Lists of jobs: by owner, model, time and status, newest first."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from core.db.expressions import JOBS, Page, row_value
from core.db.queries import jobs

SORT_COLUMNS = (JOBS.c.created_at, JOBS.c.id)
MAX_SCANNED_JOBS = 5_000  # jobs of which a page is made where a status or a name is asked for


class JobCursor(NamedTuple):
    """The position where a page ended."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class JobFilter:
    """The jobs to list; a field that is None matches all."""

    owner: str | None = None
    model: str | None = None
    status: str | None = None
    name: str | None = None
    """A text that the job's name contains, ignoring case."""
    since: datetime | None = None
    """Created at that moment or later."""
    until: datetime | None = None
    """Created before it."""


def list_page(
    conn: sa.Connection,
    filters: JobFilter,
    *,
    limit: int,
    after: JobCursor | None = None,
    max_scanned: int = MAX_SCANNED_JOBS,
) -> Page:
    """Return jobs that were not purged with their live counts, newest first, from beyond a cursor.

    Jobs of a status or a name, which no index covers, are searched for among the next `max_scanned` only: a page may
    have fewer rows than `limit`, or none, and still a cursor for the next page.
    """
    conditions = [JOBS.c.purged_at.is_(None)]
    conditions += [
        predicate(value) for name, predicate in PREDICATES.items() if (value := getattr(filters, name)) is not None
    ]
    sort_key, newest_first = sa.tuple_(*SORT_COLUMNS), [column.desc() for column in SORT_COLUMNS]
    if filters.until is not None:
        # One bound says where to begin: of two, either database may choose the farther, and walk to the other.
        until_cursor = JobCursor(filters.until, str(uuid.UUID(int=0)))
        after = until_cursor if after is None else min(after, until_cursor)
    if after is not None:
        conditions.append(sort_key < row_value(SORT_COLUMNS, after))
    query, next_cursor = jobs.job_query().where(*conditions), None
    unindexed = [
        predicate(value)
        for name, predicate in UNINDEXED_PREDICATES.items()
        if (value := getattr(filters, name)) is not None
    ]
    if unindexed:
        query = query.where(*unindexed)
        scanned = sa.select(JOBS.c.created_at, JOBS.c.id).where(*conditions).order_by(*newest_first)
        if (boundary := conn.execute(scanned.offset(max_scanned - 1).limit(1)).one_or_none()) is not None:
            next_cursor = JobCursor(*boundary)
            query = query.where(sort_key >= row_value(SORT_COLUMNS, next_cursor))
    rows = conn.execute(query.order_by(*newest_first).limit(limit)).all()
    if len(rows) == limit:
        next_cursor = JobCursor(rows[-1].created_at, rows[-1].id)
    return Page(rows, next_cursor)


UNINDEXED_PREDICATES: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "status": lambda status: status == jobs.STATUS,
    "name": lambda text: JOBS.c.name.icontains(text, autoescape=True),
}
PREDICATES: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {  # those of an index, but for where it begins
    "owner": lambda owner: JOBS.c.api_key_id == owner,
    "model": lambda model: JOBS.c.model == model,
    "since": lambda moment: JOBS.c.created_at >= moment,
}
