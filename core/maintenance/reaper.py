"""Reaper: requeue images whose worker was lost, and expire jobs that are past their deadline."""

import logging

from core.db import database
from core.db.queries import expired_leases, jobs

log = logging.getLogger(__name__)


def reap(db: database.Database, *, max_attempts: int, open_job_days: float = 0.0) -> int:
    """Requeue images whose lease has ended, or fail them at the maximum of attempts; end jobs that are overdue.

    These are the jobs past their deadline, and the open ones to which nothing was added for `open_job_days` (0: never).

    Returns the number of images requeued.

    Raises:
        errors.DatabaseUnavailable: the database does not answer.
    """
    requeued, failed = db.write(expired_leases.requeue, max_attempts=max_attempts)
    expired = db.write(jobs.expire)
    if expired:
        log.info("%d jobs are past their deadline", len(expired))
    if open_job_days and (abandoned := db.write(jobs.seal_abandoned, days=open_job_days)):
        log.info("%d open jobs were sealed: nothing was added to them for %g days", len(abandoned), open_job_days)
    if requeued:
        log.warning("%d images of lost workers were requeued", requeued)
    if failed:
        log.error("%d images failed: every worker that claimed them was lost", failed)
    return requeued
