"""Retention: delete images and results of jobs that finished long enough ago; the row of the job stays."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from core import enums
from core.db import clock
from core.db.expressions import DELIVERIES, IMAGES, IS_DELETING, JOBS
from core.db.queries import webhook_deliveries

MIN_AGE_SECONDS = 3600.0
"""A job that finished more recently is never purged: its bytes may still be written (core/storage/base.py)."""
OVERDUE_SECONDS = 86_400.0  # a purge this late is overdue
JOBS_PER_STEP = 100
IMAGES_PER_STEP = 1000


@dataclass(frozen=True)
class PurgeStepResult:
    """The rows deleted by one step of a purge."""

    jobs: int
    """The number of jobs it touched; after a step with none, the purge is complete."""
    digests: set[str]
    """The SHA-256 of the images whose rows were deleted, and whose bytes were in the blob store."""
    source_digests: set[str]
    """The SHA-256 of those whose bytes are in a source."""


def purge_step(conn: sa.Connection, *, days: float) -> PurgeStepResult:
    """Delete some images, results and deliveries of jobs that finished so many days ago.

    From the first step on, such a job is gone for every caller, however many steps follow. The caller removes the bytes
    of the images that no other job refers to, from the blob store, and never from a source. Safe when several processes
    do it at once.
    """
    return _purge(conn, list(map(str, conn.execute(_purgeable_jobs(days)).scalars())))


def deletion_step(conn: sa.Connection, job_id: str | None = None) -> PurgeStepResult:
    """Delete some images, results and deliveries of jobs that callers have deleted, or of one; as in `purge_step`.

    Images that have not ended count as cancelled. A job whose webhook is still being delivered is completed when that
    has ended.
    """
    query = sa.select(JOBS.c.id).where(IS_DELETING)
    query = query.where(_is_actionable())
    if job_id is not None:
        query = query.where(JOBS.c.id == job_id)
    limited = query.order_by(JOBS.c.purged_at).limit(JOBS_PER_STEP).with_for_update(skip_locked=job_id is None)
    return _purge(conn, list(map(str, conn.execute(limited).scalars())))


def _purge(conn: sa.Connection, job_ids: Sequence[str]) -> PurgeStepResult:
    if not job_ids:
        return PurgeStepResult(0, set(), set())
    is_selected = JOBS.c.id.in_(job_ids)
    conn.execute(sa.update(JOBS).where(is_selected, JOBS.c.purged_at.is_(None)).values(purged_at=clock.now()))
    digests, source_digests = _remove_images(conn, job_ids)
    webhook_deliveries.make_due(conn, sa.select(JOBS.c.id).where(is_selected, ~_has_images()))
    webhook_deliveries.delete_finished(conn, job_ids)
    conn.execute(
        sa.update(JOBS)
        .where(is_selected, ~_has_images(), ~_has_pending_delivery())
        .values(purge_completed_at=clock.now())
    )
    return PurgeStepResult(len(job_ids), digests, source_digests)


def _remove_images(conn: sa.Connection, job_ids: Sequence[str]) -> tuple[set[str], set[str]]:
    """Delete some images of these jobs, job by job: along their index, however large the table.

    Returns the digests of those that were uploaded, and of those in sources.
    """
    digests, source_digests = set[str](), set[str]()
    remaining = IMAGES_PER_STEP
    for job_id in job_ids:
        id_query = sa.select(IMAGES.c.id).where(IMAGES.c.job_id == job_id).order_by(IMAGES.c.name).limit(remaining)
        ids = conn.execute(id_query).scalars().all()
        columns = (IMAGES.c.sha256, IMAGES.c.source, IMAGES.c.status)
        unfinished = 0
        for sha256, source, status in conn.execute(sa.delete(IMAGES).where(IMAGES.c.id.in_(ids)).returning(*columns)):
            (digests if source is None else source_digests).add(sha256)
            unfinished += status in {enums.Status.QUEUED, enums.Status.RUNNING}
        if unfinished:
            cancelled = {"cancelled": JOBS.c.cancelled + unfinished}
            conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(cancelled))
        remaining -= len(ids)
        if not remaining:
            break
    return digests, source_digests


def count_overdue(conn: sa.Connection, *, days: float) -> int:
    """Count the jobs that should have been purged long ago, up to a thousand."""
    late_jobs = (
        sa.select(JOBS.c.id).where(*_is_past_retention(days, OVERDUE_SECONDS), JOBS.c.purged_at.is_(None)).limit(1000)
    )
    return int(conn.execute(sa.select(sa.func.count()).select_from(late_jobs.subquery())).scalar_one())


def _purgeable_jobs(days: float) -> sa.Select[tuple[str]]:
    """Select some of the jobs with rows to delete, those first that finished first."""
    query = (
        sa.select(JOBS.c.id)
        .where(*_is_past_retention(days), sa.or_(JOBS.c.purged_at.is_(None), _is_actionable()))
        .order_by(JOBS.c.finished_at)
        .limit(JOBS_PER_STEP)
    )
    return query.with_for_update(skip_locked=True)


def _is_past_retention(days: float, extra_seconds: float = 0.0) -> tuple[sa.ColumnElement[bool], ...]:
    age = max(days * 86_400, MIN_AGE_SECONDS) + extra_seconds
    return JOBS.c.finished_at < clock.now(-age), JOBS.c.purge_completed_at.is_(None)


def _is_actionable() -> sa.ColumnElement[bool]:
    """Return the condition that a step can go on with a job: it has images, or no delivery that is being sent."""
    return sa.or_(_has_images(), ~_has_pending_delivery(DELIVERIES.c.next_attempt_at.is_not(None)))


def _has_images() -> sa.ColumnElement[bool]:
    # A subquery and not EXISTS, for which PostgreSQL would hash all images.
    return sa.select(IMAGES.c.id).where(IMAGES.c.job_id == JOBS.c.id).limit(1).scalar_subquery().is_not(None)


def _has_pending_delivery(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    pending = sa.select(DELIVERIES.c.id).where(DELIVERIES.c.job_id == JOBS.c.id, webhook_deliveries.IS_PENDING)
    return pending.where(*conditions).limit(1).scalar_subquery().is_not(None)
