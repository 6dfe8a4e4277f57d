"""The rescue: finds what lost workers left behind. Any process may do it, ten at once too."""

import logging

from jobs import database
from jobs.store import jobs, work

log = logging.getLogger(__name__)


def sweep(db: database.Database, *, max_attempts: int) -> int:
    """Queue again, or fail at the cap, every image whose lease has run out, and end what is past its deadline.

    Returns how many images were queued again.

    Raises:
        errors.DatabaseUnavailable: the database does not answer.
    """
    queued, failed = db.write(work.rescue, max_attempts=max_attempts)
    expired = db.write(jobs.expire)
    if expired:
        log.info("%d jobs are past their deadline", len(expired))
    if queued:
        log.warning("%d images of lost workers are queued again", queued)
    if failed:
        log.error("%d images failed: every worker that took them was lost", failed)
    return queued
