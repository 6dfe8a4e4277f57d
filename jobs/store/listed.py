"""Jobs by the page: whose, for which model, of which time; the newest first."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobs import tables
from jobs.store import jobs
from jobs.store.sql import JOBS, Page

LOOK_AT = 5_000  # jobs of which a page is made where a status is asked for


class Place(NamedTuple):
    """Where a page ended."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class Filter:
    """Which jobs are asked for; what is None does not matter."""

    owner: str | None = None
    model: str | None = None
    status: str | None = None
    since: datetime | None = None
    """Made at that moment or later."""
    until: datetime | None = None
    """Made before it."""


def page(c: sa.Connection, wanted: Filter, *, limit: int, after: Place | None = None, look_at: int = LOOK_AT) -> Page:
    """Jobs that were not purged with their live counts, newest first, from beyond a place.

    Those of a status, which no index knows, are looked for among the next `look_at` only: a page may have fewer rows
    than `limit`, or none, and yet a place where the next begins.
    """
    course = [JOBS.c.purged_at.is_(None)]
    course += [test(value) for name, test in TESTS.items() if (value := getattr(wanted, name)) is not None]
    here, newest_first = sa.tuple_(JOBS.c.created_at, JOBS.c.id), (JOBS.c.created_at.desc(), JOBS.c.id.desc())
    if wanted.until is not None:
        # One bound says where to begin: of two, either database may choose the farther, and walk to the other.
        until = Place(wanted.until, str(uuid.UUID(int=0)))
        after = until if after is None else min(after, until)
    if after is not None:
        course.append(here < _there(after))
    query, last = jobs.view().where(*course), None
    if wanted.status is not None:
        query = query.where(jobs.status() == wanted.status)
        places = sa.select(JOBS.c.created_at, JOBS.c.id).where(*course).order_by(*newest_first)
        if (end := c.execute(places.offset(look_at - 1).limit(1)).one_or_none()) is not None:
            last = Place(*end)
            query = query.where(here >= _there(last))
    rows = c.execute(query.order_by(*newest_first).limit(limit)).all()
    if len(rows) == limit:
        last = Place(rows[-1].created_at, rows[-1].id)
    return Page(rows, last)


def _there(place: Place) -> sa.ColumnElement[Any]:
    return sa.tuple_(sa.literal(place.created_at, tables.Timestamp()), sa.literal(place.id, JOBS.c.id.type))


TESTS: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {  # but for the status, and where it begins
    "owner": lambda owner: JOBS.c.owner == owner,
    "model": lambda model: JOBS.c.model == model,
    "since": lambda moment: JOBS.c.created_at >= moment,
}
