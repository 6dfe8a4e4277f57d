"""Purges: pictures and results of jobs that have been over for long enough go; that there was a job stays."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from jobs import clock
from jobs.store import deliveries
from jobs.store.sql import DELIVERIES, IMAGES, JOBS

LEAST_SECONDS = 3600.0
"""A job that was over more lately is kept in any case, so that its bytes are no longer on their way (jobs/blobs.py)."""
LATE_SECONDS = 86_400.0  # what should have gone for so long is overdue
JOBS_AT_ONCE = 100
IMAGES_AT_ONCE = 1000


@dataclass(frozen=True)
class Removed:
    """What one step of a purge has removed."""

    jobs: int
    """How many jobs it had to do with; with none, nothing is left to be done."""
    digests: set[str]
    """The SHA-256 of the pictures whose rows have gone."""


def purge(c: sa.Connection, *, days: float) -> Removed:
    """Remove some images, results and deliveries of jobs that were over so long ago.

    From the first step on such a job is gone for everybody, however many steps it takes. The bytes of the pictures are
    the caller's to remove, where no other job has them. Safe however many do it at once.
    """
    job_ids = list(map(str, c.execute(_old(days)).scalars()))
    if not job_ids:
        return Removed(0, set())
    some = JOBS.c.id.in_(job_ids)
    c.execute(sa.update(JOBS).where(some, JOBS.c.purged_at.is_(None)).values(purged_at=clock.now()))
    digests = _remove_images(c, job_ids)
    deliveries.forget(c, job_ids)
    c.execute(sa.update(JOBS).where(some, ~_has_images(), ~_is_to_be_told()).values(emptied_at=clock.now()))
    return Removed(len(job_ids), digests)


def _remove_images(c: sa.Connection, job_ids: Sequence[str]) -> set[str]:
    """Remove some images of these jobs, one job after the other: by their index, however large the table."""
    digests: set[str] = set()
    left = IMAGES_AT_ONCE
    for job_id in job_ids:
        some = sa.select(IMAGES.c.id).where(IMAGES.c.job_id == job_id).order_by(IMAGES.c.name).limit(left)
        ids = c.execute(some).scalars().all()
        gone = sa.delete(IMAGES).where(IMAGES.c.id.in_(ids)).returning(IMAGES.c.sha256, IMAGES.c.source)
        # What lies in a source is not ours to remove.
        digests.update(sha256 for sha256, source in c.execute(gone) if source is None)
        left -= len(ids)
        if not left:
            break
    return digests


def overdue(c: sa.Connection, *, days: float) -> int:
    """How many jobs should have been purged long ago, counted as far as a thousand."""
    late = sa.select(JOBS.c.id).where(*_over(days, LATE_SECONDS), JOBS.c.purged_at.is_(None)).limit(1000)
    return int(c.execute(sa.select(sa.func.count()).select_from(late.subquery())).scalar_one())


def _old(days: float) -> sa.Select[tuple[str]]:
    """Some of the jobs of which something is to be removed, the first that were over first."""
    todo = sa.or_(JOBS.c.purged_at.is_(None), _has_images(), ~_is_to_be_told())
    query = sa.select(JOBS.c.id).where(*_over(days), todo).order_by(JOBS.c.finished_at).limit(JOBS_AT_ONCE)
    return query.with_for_update(skip_locked=True)


def _over(days: float, more_seconds: float = 0.0) -> tuple[sa.ColumnElement[bool], ...]:
    age = max(days * 86_400, LEAST_SECONDS) + more_seconds
    return JOBS.c.finished_at < clock.now(-age), JOBS.c.emptied_at.is_(None)


def _has_images() -> sa.ColumnElement[bool]:
    # A subquery and not EXISTS, of which PostgreSQL would make a table of all images.
    return sa.select(IMAGES.c.id).where(IMAGES.c.job_id == JOBS.c.id).limit(1).scalar_subquery().is_not(None)


def _is_to_be_told() -> sa.ColumnElement[bool]:
    pending = sa.select(DELIVERIES.c.id).where(DELIVERIES.c.job_id == JOBS.c.id, deliveries.PENDING)
    return pending.limit(1).scalar_subquery().is_not(None)
