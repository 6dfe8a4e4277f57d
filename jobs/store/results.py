"""Results: what became of images, by job, or by anything else that an admin may ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobs import tables

IMAGES: Any = tables.Image.__table__
JOBS: Any = tables.Job.__table__
RESULTS: Any = tables.Result.__table__


@dataclass(frozen=True)
class Filter:
    """Which results are asked for; what is None does not matter."""

    owner: str | None = None
    job: str | None = None
    label: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    status: str | None = None
    error: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    name: str | None = None
    """A text that the picture's name contains, in any case."""


def page(
    c: sa.Connection, wanted: Filter, *, limit: int, after: int | None = None, newest_first: bool = False
) -> Sequence[sa.Row[Any]]:
    """Results in the order in which their images came (or the reverse), from beyond the image id `after`."""
    query = sa.select(RESULTS, IMAGES.c.name).join(IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    query = query.where(*_conditions(wanted)).limit(limit)
    key = RESULTS.c.image_id
    query = query.order_by(key.desc() if newest_first else key)
    if after is not None:
        query = query.where(key < after if newest_first else key > after)
    return c.execute(query).all()


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    given = {name: value for name, value in vars(wanted).items() if value is not None}
    return [TESTS[name](value) for name, value in given.items()]


TESTS: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "owner": lambda owner: RESULTS.c.job_id.in_(sa.select(JOBS.c.id).where(JOBS.c.owner == owner)),
    "job": lambda job: RESULTS.c.job_id == job,
    "label": lambda label: RESULTS.c.label == label,
    "min_confidence": lambda confidence: RESULTS.c.confidence >= confidence,
    "max_confidence": lambda confidence: RESULTS.c.confidence <= confidence,
    "status": lambda status: RESULTS.c.status == status,
    "error": lambda code: RESULTS.c.error_code == code,
    "model": lambda model: RESULTS.c.model == model,
    "since": lambda moment: RESULTS.c.finished_at >= moment,
    "until": lambda moment: RESULTS.c.finished_at < moment,
    "name": lambda text: IMAGES.c.name.icontains(text, autoescape=True),
}
