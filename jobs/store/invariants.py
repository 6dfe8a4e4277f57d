"""What must always be true of the tables; the doctor asks, and so do the tests."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store.sql import DELIVERIES, ENDED, IMAGES, JOBS, QUEUED, RESULTS, RUNNING

FINAL = [tables.Status.DONE, tables.Status.FAILED, tables.Status.CANCELLED, tables.Status.EXPIRED]


def ended_without_result(c: sa.Connection) -> int:
    """Images that have ended and have no result."""
    result = sa.exists().where(RESULTS.c.image_id == IMAGES.c.id)
    return _count(c, IMAGES, IMAGES.c.status.in_(FINAL), ~result)


def results_of_open_images(c: sa.Connection) -> int:
    """Results whose image has not ended, or has ended otherwise."""
    agrees = sa.exists().where(IMAGES.c.id == RESULTS.c.image_id, IMAGES.c.status == RESULTS.c.status)
    return _count(c, RESULTS, ~agrees)


def miscounted_jobs(c: sa.Connection) -> int:
    """Jobs whose counters are not what their images say."""
    counts = sa.select(
        IMAGES.c.job_id,
        sa.func.count().label("total"),
        *[sa.func.count().filter(IMAGES.c.status == status).label(status) for status in FINAL],
    )
    seen = counts.group_by(IMAGES.c.job_id).subquery()
    names = ["total", *FINAL]
    differs = sa.or_(*[JOBS.c[name] != sa.func.coalesce(seen.c[name], 0) for name in names])
    query = sa.select(sa.func.count()).select_from(JOBS.outerjoin(seen, seen.c.job_id == JOBS.c.id))
    return int(c.execute(query.where(differs, JOBS.c.purged_at.is_(None))).scalar_one())


def unfinished_complete_jobs(c: sa.Connection) -> int:
    """Jobs that are sealed and whose images have all ended, and yet are not finished; or the reverse."""
    complete = sa.and_(JOBS.c.sealed_at.is_not(None), JOBS.c.total == ENDED)
    return _count(c, JOBS, complete != JOBS.c.finished_at.is_not(None))


def untold_jobs(c: sa.Connection) -> int:
    """Jobs with a webhook that have ended, and nobody is to be told; or somebody is, and they have not ended."""
    told = sa.exists().where(DELIVERIES.c.job_id == JOBS.c.id)
    return _count(
        c, JOBS, JOBS.c.webhook.is_not(None), JOBS.c.purged_at.is_(None), told != JOBS.c.finished_at.is_not(None)
    )


def forgotten_leases(c: sa.Connection, *, seconds: float) -> int:
    """Images whose lease ran out so long ago that somebody should have rescued them."""
    late = IMAGES.c.lease_until < clock.now(-seconds)
    return _count(c, IMAGES, RUNNING, late)


def attempted_too_often(c: sa.Connection, *, max_attempts: int) -> int:
    """Images that were claimed more often than is allowed."""
    return _count(c, IMAGES, IMAGES.c.attempt > max_attempts)


def waiting_pictures(c: sa.Connection, *, limit: int) -> Sequence[str]:
    """The digests of the pictures among the blobs that are served next."""
    next_ = (
        sa.select(IMAGES.c.sha256)
        .where(QUEUED, IMAGES.c.source.is_(None))
        .order_by(IMAGES.c.priority, IMAGES.c.id)
        .limit(limit)
    )
    return c.execute(next_).scalars().all()


def open_images(c: sa.Connection) -> int:
    """Images that wait for a worker."""
    return _count(c, IMAGES, QUEUED)


def _count(c: sa.Connection, table: Any, *conditions: Any) -> int:
    return int(c.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one())
