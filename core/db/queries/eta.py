"""Throughput and queue position: how fast images are finished, how steadily, and how many are ahead of a job."""

import math
import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

import sqlalchemy as sa

from core import enums
from core.db import clock
from core.db.expressions import ENDED_COUNT, JOBS, RESULTS
from core.db.queries import quotas

WINDOW_SECONDS = 60.0
MAX_WINDOW_ROWS = 2000  # at a higher throughput, a rate is measured over a shorter time than the window
SLICES = 10  # of the time that a rate is measured over; their rates show how steady it is
INTERVAL_STDEVS = 2.0  # half the width of a range of estimates; of normal errors, 95 % are within it
MAX_JOBS = 10_000  # unfinished jobs that are read; to a job behind them, all their images are ahead


@dataclass(frozen=True)
class Throughput:
    """The recent rate of finished images and its variation."""

    rate: float = 0.0
    """Images per second; 0 if none was finished."""
    stdev: float = 0.0
    """The standard deviation of the rate between slices."""
    slice_seconds: float = 1.0

    @classmethod
    def from_counts(cls, finished: Sequence[tuple[datetime, int]], now: datetime) -> "Throughput":
        """Compute the throughput from the numbers of finished images by timestamp, over the time since the first."""
        if not finished:
            return cls()
        ages = [(now - finished_at) / timedelta(seconds=1) for finished_at, _ in finished]
        slice_seconds = max(*ages, 1.0) / SLICES
        slices = [0] * SLICES
        for seconds, (_, count) in zip(ages, finished, strict=True):
            slices[min(int(max(seconds, 0.0) / slice_seconds), SLICES - 1)] += count
        rates = [count / slice_seconds for count in slices]
        return cls(statistics.mean(rates), statistics.stdev(rates), slice_seconds)

    def eta_seconds(self, images: int) -> float | None:
        """Return in how many seconds this many images will be done; None if the rate is not known."""
        return images / self.rate if self.rate else None

    def eta_range(self, images: int) -> tuple[float, float | None] | None:
        """Return (least, most) seconds until so many images are done; None if the rate is not known.

        The most is None if the rate may be 0. The future rate is taken as another sample of the same distribution as
        the measured one: the more seconds there are to come, the less the two differ.
        """
        seconds = self.eta_seconds(images)
        if seconds is None:
            return None
        future_slices = max(seconds / self.slice_seconds, 1.0)
        margin = INTERVAL_STDEVS * self.stdev * math.sqrt(1 / SLICES + 1 / future_slices)
        min_rate = self.rate - margin
        return images / (self.rate + margin), images / min_rate if min_rate > 0 else None


@dataclass(frozen=True)
class QueueEstimate:
    """The queue at one moment: every unfinished job, in the order in which they are processed."""

    estimated_at: datetime
    throughput: Throughput
    job_keys: list[tuple[int, str]] = field(default_factory=list)
    """Priority and id of each job."""
    images_ahead: list[int] = field(default_factory=lambda: [0])
    """The number of open images of the jobs before each job, and at the end of all jobs."""
    open_loads: Mapping[str, quotas.Load] = field(default_factory=dict)
    """The open images of each key."""

    def position(self, priority: int, job_id: str) -> int:
        """Return how many images are ahead of those of a job."""
        return self.images_ahead[bisect_left(self.job_keys, (priority, job_id))]

    @property
    def rate(self) -> float:
        """Images per second, recently; 0 if none was finished."""
        return self.throughput.rate


def estimate_queue(conn: sa.Connection) -> QueueEstimate:
    """Estimate the queue as of now, from the latest results and the unfinished jobs."""
    recent = sa.select(RESULTS.c.finished_at, RESULTS.c.status).where(
        RESULTS.c.finished_at > clock.now(-WINDOW_SECONDS)
    )
    sample = recent.order_by(RESULTS.c.finished_at.desc()).limit(MAX_WINDOW_ROWS).subquery()
    classified = sa.func.count().filter(sample.c.status.in_([enums.Status.DONE, enums.Status.FAILED]))
    finished = conn.execute(sa.select(sample.c.finished_at, classified).group_by(sample.c.finished_at)).all()
    now = conn.execute(sa.select(clock.now())).scalar_one()
    throughput = Throughput.from_counts([(finished_at, count) for finished_at, count in finished], now)
    remaining = (JOBS.c.total - ENDED_COUNT).label("remaining")
    unfinished = sa.select(JOBS.c.priority, JOBS.c.id, remaining).where(JOBS.c.finished_at.is_(None))
    rows = conn.execute(unfinished.order_by(JOBS.c.priority, JOBS.c.id).limit(MAX_JOBS)).all()
    job_keys = [(row.priority, str(row.id)) for row in rows]
    return QueueEstimate(
        now, throughput, job_keys, [0, *accumulate(row.remaining for row in rows)], quotas.open_loads(conn)
    )
