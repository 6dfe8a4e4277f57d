"""Forecasts: how fast pictures are finished and how evenly, and how many go before those of a job."""

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import quotas
from jobs.store.sql import ENDED, JOBS, RESULTS

LATELY_SECONDS = 60.0
LATELY_ROWS = 2000  # enough to tell a rate, and no more to read however fast it is
SLICES = 10  # of that time, whose rates differ
SURE = 2.0  # standard deviations: what is told as a range holds about nineteen times in twenty
MOST_JOBS = 10_000  # of those that are not over; whoever comes behind them is told of these


@dataclass(frozen=True)
class Pace:
    """How fast pictures were finished lately, and how evenly."""

    rate: float = 0.0
    """Pictures a second; 0 where nothing was finished."""
    spread: float = 0.0
    """By how much that differs from slice to slice: a standard deviation."""
    slice_seconds: float = 1.0

    @classmethod
    def of(cls, finished: Sequence[tuple[datetime, int]], now: datetime) -> "Pace":
        """From how many were finished at which moments."""
        if not finished:
            return cls()
        ago = [(now - moment) / timedelta(seconds=1) for moment, _ in finished]
        slice_seconds = max(*ago, 1.0) / SLICES
        slices = [0] * SLICES
        for seconds, (_, count) in zip(ago, finished, strict=True):
            slices[min(int(max(seconds, 0.0) / slice_seconds), SLICES - 1)] += count
        rates = [count / slice_seconds for count in slices]
        return cls(statistics.mean(rates), statistics.stdev(rates), slice_seconds)

    def seconds(self, images: int) -> float | None:
        """In how many seconds so many will be done; None if nobody knows."""
        return images / self.rate if self.rate else None

    def range(self, images: int) -> tuple[float, float | None] | None:
        """In how many seconds at the least and at the most; the most is None if it may be any, all if nobody knows.

        The mean of what is to come differs from that of what was seen as two samples do: the longer, the less.
        """
        seconds = self.seconds(images)
        if seconds is None:
            return None
        coming = max(seconds / self.slice_seconds, 1.0)
        swing = SURE * self.spread * math.sqrt(1 / SLICES + 1 / coming)
        slow = self.rate - swing
        return images / (self.rate + swing), images / slow if slow > 0 else None


@dataclass(frozen=True)
class Forecast:
    """The queue at one moment: every job that is not over, in the order in which they are served."""

    at: datetime
    pace: Pace
    places: list[tuple[int, str]] = field(default_factory=list)
    """Priority and id of each job."""
    before: list[int] = field(default_factory=lambda: [0])
    """How many pictures are left of the jobs before each, and at the end of all."""
    load: quotas.Load = quotas.NOTHING
    """What is open, of all jobs."""

    def position(self, priority: int, job_id: str) -> int:
        """How many pictures go before those of a job."""
        return self.before[bisect_left(self.places, (priority, job_id))]

    @property
    def rate(self) -> float:
        """Pictures a second, lately; 0 where nothing was finished."""
        return self.pace.rate


def look(c: sa.Connection) -> Forecast:
    """The forecast as of now: one look at the latest results, one at the jobs that are not over."""
    latest = sa.select(RESULTS.c.finished_at, RESULTS.c.status).where(
        RESULTS.c.finished_at > clock.now(-LATELY_SECONDS)
    )
    some = latest.order_by(RESULTS.c.finished_at.desc()).limit(LATELY_ROWS).subquery()
    worked = sa.func.count().filter(some.c.status.in_([tables.Status.DONE, tables.Status.FAILED]))
    finished = c.execute(sa.select(some.c.finished_at, worked).group_by(some.c.finished_at)).all()
    now = c.execute(sa.select(clock.now())).scalar_one()
    pace = Pace.of([(moment, count) for moment, count in finished], now)
    left = (JOBS.c.total - ENDED).label("left")
    waiting = sa.select(JOBS.c.priority, JOBS.c.id, left).where(JOBS.c.finished_at.is_(None))
    rows = c.execute(waiting.order_by(JOBS.c.priority, JOBS.c.id).limit(MOST_JOBS)).all()
    places = [(row.priority, str(row.id)) for row in rows]
    return Forecast(now, pace, places, [0, *accumulate(row.left for row in rows)], quotas.open_load(c))
