"""Gauges: what is open, who works and what is overdue at this moment, read off the small ends of large tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobs import clock
from jobs.store import deliveries, scans, tallies, workers
from jobs.store.sql import ENDED, IMAGES, JOBS, QUEUED, RUNNING

Queue = tuple[str, int]
"""A model's name and a priority."""


@dataclass(frozen=True)
class Gauges:
    """How it stands, and what has been counted so far."""

    open: Mapping[Queue, int]
    """Images without a result."""
    running: Mapping[Queue, int]
    """Those of them that a worker has in hand."""
    oldest_seconds: Mapping[Queue, float]
    """The age of the job whose image is served next, where any waits."""
    workers: list[Any]
    webhooks_pending: int
    webhooks_overdue: int
    scans_overdue: int
    totals: Mapping[tallies.Key, float]


def look(c: sa.Connection) -> Gauges:
    """All of it; no query reads what has ended."""
    queue, left = (JOBS.c.model, JOBS.c.priority), sa.func.sum(JOBS.c.total - ENDED)
    jobs = c.execute(sa.select(*queue, left).where(JOBS.c.finished_at.is_(None)).group_by(*queue)).all()
    held = (IMAGES.c.model, IMAGES.c.priority)
    running = c.execute(sa.select(*held, sa.func.count()).where(RUNNING).group_by(*held)).all()
    open_ = {(model, priority): int(count) for model, priority, count in jobs if count}
    ages = {(model, priority): _oldest(c, model, priority) for model, priority in open_}
    return Gauges(
        open_,
        {(model, priority): count for model, priority, count in running},
        {queue_: age for queue_, age in ages.items() if age is not None},
        list(workers.living(c)),
        deliveries.pending(c),
        deliveries.overdue(c),
        scans.overdue(c),
        tallies.totals(c),
    )


def _oldest(c: sa.Connection, model: str, priority: int) -> float | None:
    first = sa.select(IMAGES.c.job_id).where(QUEUED, IMAGES.c.model == model, IMAGES.c.priority == priority)
    first = first.order_by(IMAGES.c.id).limit(1)
    query = sa.select(JOBS.c.created_at, clock.now()).where(JOBS.c.id == first.scalar_subquery())
    row = c.execute(query).one_or_none()
    return None if row is None else max((row[1] - row[0]) / timedelta(seconds=1), 0.0)
