"""Consistency checks of the tables, for `sortbelt doctor` and the tests."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from core import enums
from core.db import clock
from core.db.expressions import DELIVERIES, ENDED_COUNT, IMAGES, IS_QUEUED, IS_RUNNING, JOBS, RESULTS

FINAL_STATUSES = [enums.Status.DONE, enums.Status.FAILED, enums.Status.CANCELLED, enums.Status.EXPIRED]


def final_images_without_result(conn: sa.Connection) -> int:
    """Count finished images that have no result."""
    has_result = sa.exists().where(RESULTS.c.image_id == IMAGES.c.id)
    return _count(conn, IMAGES, IMAGES.c.status.in_(FINAL_STATUSES), ~has_result)


def results_of_unfinished_images(conn: sa.Connection) -> int:
    """Count results whose image is not finished, or has another status."""
    has_same_status = sa.exists().where(IMAGES.c.id == RESULTS.c.image_id, IMAGES.c.status == RESULTS.c.status)
    return _count(conn, RESULTS, ~has_same_status)


def miscounted_jobs(conn: sa.Connection) -> int:
    """Count jobs whose counters differ from their images."""
    counts = sa.select(
        IMAGES.c.job_id,
        sa.func.count().label("total"),
        *[sa.func.count().filter(IMAGES.c.status == status).label(status) for status in FINAL_STATUSES],
    )
    actual = counts.group_by(IMAGES.c.job_id).subquery()
    names = ["total", *FINAL_STATUSES]
    is_different = sa.or_(*[JOBS.c[name] != sa.func.coalesce(actual.c[name], 0) for name in names])
    query = sa.select(sa.func.count()).select_from(JOBS.outerjoin(actual, actual.c.job_id == JOBS.c.id))
    return int(conn.execute(query.where(is_different, JOBS.c.purged_at.is_(None))).scalar_one())


def unfinished_complete_jobs(conn: sa.Connection) -> int:
    """Count jobs that are sealed and have no open image but are not finished, or the reverse.

    Without purged jobs: one that was deleted has finished, and some of its images may not have.
    """
    is_complete = sa.and_(JOBS.c.sealed_at.is_not(None), JOBS.c.total == ENDED_COUNT)
    return _count(conn, JOBS, is_complete != JOBS.c.finished_at.is_not(None), JOBS.c.purged_at.is_(None))


def jobs_without_delivery(conn: sa.Connection) -> int:
    """Count finished jobs with a webhook but no delivery, and unfinished ones with a delivery."""
    has_delivery = sa.exists().where(DELIVERIES.c.job_id == JOBS.c.id)
    return _count(
        conn,
        JOBS,
        JOBS.c.webhook_url.is_not(None),
        JOBS.c.purged_at.is_(None),
        has_delivery != JOBS.c.finished_at.is_not(None),
    )


def stale_leases(conn: sa.Connection, *, seconds: float) -> int:
    """Count images whose lease ended so long ago that a worker should have requeued them."""
    is_stale = IMAGES.c.lease_until < clock.now(-seconds)
    return _count(conn, IMAGES, IS_RUNNING, is_stale)


def images_over_max_attempts(conn: sa.Connection, *, max_attempts: int) -> int:
    """Count images that were claimed more often than allowed."""
    return _count(conn, IMAGES, IMAGES.c.attempt > max_attempts)


def next_queued_digests(conn: sa.Connection, *, limit: int) -> Sequence[str]:
    """Return the digests of the uploaded images that are claimed next."""
    queued = (
        sa.select(IMAGES.c.sha256)
        .where(IS_QUEUED, IMAGES.c.source.is_(None))
        .order_by(IMAGES.c.priority, IMAGES.c.id)
        .limit(limit)
    )
    return conn.execute(queued).scalars().all()


def queued_images(conn: sa.Connection) -> int:
    """Count the queued images."""
    return _count(conn, IMAGES, IS_QUEUED)


CHECKS = {
    "finished images without result": final_images_without_result,
    "results of unfinished images": results_of_unfinished_images,
    "miscounted jobs": miscounted_jobs,
    "complete but unfinished jobs": unfinished_complete_jobs,
}
"""The checks that hold at any time, by the defect that they count; the others depend on settings or webhooks."""


def find_defects(conn: sa.Connection) -> dict[str, int]:
    """Return the numbers of defects that `CHECKS` count, without those of which there are 0."""
    counts = {name: count(conn) for name, count in CHECKS.items()}
    return {name: count for name, count in counts.items() if count}


def _count(conn: sa.Connection, table: Any, *conditions: Any) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one())
