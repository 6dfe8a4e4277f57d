"""Gauges: open images, live workers and overdue tasks at this moment, read from small partial indexes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from core.db import clock
from core.db.expressions import ENDED_COUNT, IMAGES, IS_QUEUED, IS_RUNNING, JOBS
from core.db.queries import counters, scans, webhook_deliveries, workers

QueueKey = tuple[str, int]
"""A model's name and a priority."""


@dataclass(frozen=True)
class Gauges:
    """The gauges of one moment, and the counters."""

    open: Mapping[QueueKey, int]
    """Images without a result."""
    running: Mapping[QueueKey, int]
    """The open images that a worker holds."""
    oldest_seconds: Mapping[QueueKey, float]
    """The age of the job whose image is next, for each queue that has queued images."""
    workers: list[Any]
    webhooks_pending: int
    webhooks_overdue: int
    scans_overdue: int
    totals: Mapping[counters.CounterKey, float]


def collect(conn: sa.Connection) -> Gauges:
    """Read all gauges; no query reads finished rows."""
    queue, remaining = (JOBS.c.model, JOBS.c.priority), sa.func.sum(JOBS.c.total - ENDED_COUNT)
    jobs = conn.execute(sa.select(*queue, remaining).where(JOBS.c.finished_at.is_(None)).group_by(*queue)).all()
    image_queue = (IMAGES.c.model_name, IMAGES.c.priority)
    running = conn.execute(sa.select(*image_queue, sa.func.count()).where(IS_RUNNING).group_by(*image_queue)).all()
    open_ = {(model, priority): int(count) for model, priority, count in jobs if count}
    ages = {(model, priority): _oldest_age_seconds(conn, model, priority) for model, priority in open_}
    return Gauges(
        open_,
        {(model, priority): count for model, priority, count in running},
        {queue_: age for queue_, age in ages.items() if age is not None},
        list(workers.list_alive(conn)),
        webhook_deliveries.count_pending(conn),
        webhook_deliveries.count_overdue(conn),
        scans.count_overdue(conn),
        counters.totals(conn),
    )


def _oldest_age_seconds(conn: sa.Connection, model: str, priority: int) -> float | None:
    first_job_id = sa.select(IMAGES.c.job_id).where(
        IS_QUEUED, IMAGES.c.model_name == model, IMAGES.c.priority == priority
    )
    first_job_id = first_job_id.order_by(IMAGES.c.id).limit(1)
    query = sa.select(JOBS.c.created_at, clock.now()).where(JOBS.c.id == first_job_id.scalar_subquery())
    row = conn.execute(query).one_or_none()
    return None if row is None else max((row[1] - row[0]) / timedelta(seconds=1), 0.0)
