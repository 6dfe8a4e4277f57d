"""Forecasts: how fast pictures are finished, and how many go before those of a job."""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import quotas
from jobs.store.sql import ENDED, JOBS, RESULTS

LATELY_SECONDS = 60.0
LATELY_ROWS = 2000  # enough to tell a rate, and no more to read however fast it is
MOST_JOBS = 10_000  # of those that are not over; whoever comes behind them is told of these


@dataclass(frozen=True)
class Forecast:
    """The queue at one moment: every job that is not over, in the order in which they are served."""

    at: datetime
    rate: float
    """Pictures a second, lately; 0 where nothing was finished."""
    places: list[tuple[int, str]] = field(default_factory=list)
    """Priority and id of each job."""
    before: list[int] = field(default_factory=lambda: [0])
    """How many pictures are left of the jobs before each, and at the end of all."""
    load: quotas.Load = quotas.NOTHING
    """What is open, of all jobs."""

    def position(self, priority: int, job_id: str) -> int:
        """How many pictures go before those of a job."""
        return self.before[bisect_left(self.places, (priority, job_id))]

    def seconds(self, ahead: int, left: int) -> float | None:
        """In how many seconds as many will be done; None if nobody knows."""
        return (ahead + left) / self.rate if self.rate else None


def look(c: sa.Connection) -> Forecast:
    """The forecast as of now: one look at the latest results, one at the jobs that are not over."""
    latest = sa.select(RESULTS.c.finished_at, RESULTS.c.status).where(
        RESULTS.c.finished_at > clock.now(-LATELY_SECONDS)
    )
    some = latest.order_by(RESULTS.c.finished_at.desc()).limit(LATELY_ROWS).subquery()
    worked = sa.func.count().filter(some.c.status.in_([tables.Status.DONE, tables.Status.FAILED]))
    count, first, now = c.execute(
        sa.select(worked, sa.type_coerce(sa.func.min(some.c.finished_at), tables.Timestamp()), clock.now())
    ).one()
    seconds = max((now - first) / timedelta(seconds=1), 1.0) if first is not None else 1.0
    left = (JOBS.c.total - ENDED).label("left")
    waiting = sa.select(JOBS.c.priority, JOBS.c.id, left).where(JOBS.c.finished_at.is_(None))
    rows = c.execute(waiting.order_by(JOBS.c.priority, JOBS.c.id).limit(MOST_JOBS)).all()
    places = [(row.priority, str(row.id)) for row in rows]
    return Forecast(now, count / seconds, places, [0, *accumulate(row.left for row in rows)], quotas.open_load(c))
