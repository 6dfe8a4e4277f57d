"""Jobs by the page: whose, for which model, of which time; the newest first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobs import tables
from jobs.store import jobs
from jobs.store.sql import JOBS


class Place(NamedTuple):
    """Where a page ended."""

    created_at: datetime
    job_id: str


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


def page(c: sa.Connection, wanted: Filter, *, limit: int, after: Place | None = None) -> Sequence[sa.Row[Any]]:
    """Jobs that were not purged with their live counts, newest first, from beyond a place."""
    given = {name: value for name, value in vars(wanted).items() if value is not None}
    conditions = [JOBS.c.purged_at.is_(None), *(TESTS[name](value) for name, value in given.items())]
    if after is not None:
        place = sa.tuple_(sa.literal(after.created_at, tables.Timestamp()), sa.literal(after.job_id, JOBS.c.id.type))
        conditions.append(sa.tuple_(JOBS.c.created_at, JOBS.c.id) < place)
    newest_first = (JOBS.c.created_at.desc(), JOBS.c.id.desc())
    return c.execute(jobs.view().where(*conditions).order_by(*newest_first).limit(limit)).all()


TESTS: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "owner": lambda owner: JOBS.c.owner == owner,
    "model": lambda model: JOBS.c.model == model,
    "status": lambda status: jobs.status() == status,
    "since": lambda moment: JOBS.c.created_at >= moment,
    "until": lambda moment: JOBS.c.created_at < moment,
}
