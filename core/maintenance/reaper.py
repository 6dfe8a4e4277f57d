"""Reaper: requeue images whose worker was lost; end those of overdue and cancelled jobs; complete large retries."""

import logging
import time

from core.db import database
from core.db.queries import expired_leases, jobs, retries

READ_IMAGES = 50_000  # images whose ids are read at once: a read may pass all images of the job
MAX_ENDING_SECONDS = 1.0  # of one call; the leases of its worker wait

log = logging.getLogger(__name__)


def reap(db: database.Database, *, max_attempts: int, open_job_days: float = 0.0) -> int:
    """Requeue images whose lease has ended, or fail them at the maximum of attempts; end jobs that are overdue.

    These are the jobs past their deadline, and the open ones to which nothing was added for `open_job_days` (0: never).

    Returns the number of images requeued.

    Raises:
        errors.DatabaseUnavailable: the database does not answer.
    """
    deadline = time.monotonic() + MAX_ENDING_SECONDS
    requeued, failed = db.write(expired_leases.requeue, max_attempts=max_attempts)
    expired = db.write(jobs.expire)
    continue_large_jobs(db, deadline=deadline)
    if expired:
        log.info("%d jobs are past their deadline", len(expired))
    if open_job_days and (abandoned := db.write(jobs.seal_abandoned, days=open_job_days)):
        log.info("%d open jobs were sealed: nothing was added to them for %g days", len(abandoned), open_job_days)
    if requeued:
        log.warning("%d images of lost workers were requeued", requeued)
    if failed:
        log.error("%d images failed: every worker that claimed them was lost", failed)
    return requeued


def continue_large_jobs(db: database.Database, *, deadline: float) -> None:
    """Go on with what requests have left of large jobs.

    That is to end the queued images of jobs that were cancelled or deleted, or are overdue, see `end_queued`; and to
    copy images into retries, see `copy_retry`.
    """
    for job_id in db.read(jobs.list_ending):
        end_queued(db, job_id, deadline=deadline)
    for retry_id in db.read(retries.list_unfinished):
        copy_retry(db, retry_id, deadline=deadline)


def end_queued(db: database.Database, job_id: str, *, deadline: float) -> None:
    """End the queued images of a job that was cancelled or is overdue, until a time of the monotonic clock.

    Step by step, with pauses as long: others write too. The reaper goes on with what is left.

    Raises:
        errors.DatabaseUnavailable: the database does not answer.
    """
    while time.monotonic() < deadline and (ids := db.read(jobs.queued_ids, job_id, limit=READ_IMAGES)):
        for first in range(0, len(ids), jobs.ENDED_PER_STEP):
            started = time.monotonic()
            db.write(jobs.end_step, job_id, ids[first : first + jobs.ENDED_PER_STEP])
            if time.monotonic() >= deadline:
                return
            time.sleep(time.monotonic() - started)


def copy_retry(db: database.Database, retry_id: str, *, deadline: float) -> None:
    """Copy the images that a retry lacks, and seal it, until a time of the monotonic clock; as in `end_queued`.

    Raises:
        errors.DatabaseUnavailable: the database does not answer.
    """
    while time.monotonic() < deadline:
        remaining = db.read(retries.next_images, retry_id, limit=READ_IMAGES)
        if remaining is None:
            return
        after, images = remaining
        for first in range(0, len(images) or 1, retries.COPIED_PER_STEP):
            started = time.monotonic()
            step = images[first : first + retries.COPIED_PER_STEP]
            is_last = len(images) < READ_IMAGES and first + retries.COPIED_PER_STEP >= len(images)
            ids = [image.id for image in step]
            if not db.write(retries.copy_step, retry_id, after=after, image_ids=ids, is_last=is_last):
                break  # another process goes on with it too
            if time.monotonic() >= deadline:
                return
            after = step[-1].name if step else after
            time.sleep(time.monotonic() - started)
