"""`python -m core.maintenance.retention --days N`: purge the images and results of jobs that finished so long ago.

With `SORTBELT_RETENTION_DAYS` the API does this itself, every few minutes. Any number of processes may do it at once.
"""

import argparse
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable

from core.concurrency import periodic
from core.db import database, revision
from core.db.queries import known_blobs, retention
from core.maintenance import orphans, reaper
from core.storage import base

PURGE_INTERVAL_SECONDS = 300.0  # between two rounds
JITTER = 0.2  # of this time
MAX_ROUND_SECONDS = 60.0  # then a round ends, and the next continues
REST_RATIO = 1.0  # pause after each step, in durations of that step: others write too

log = logging.getLogger(__name__)


def run_purge(db: database.Database, blob_store: base.BlobStore, *, days: float, deadline: float | None = None) -> int:
    """Purge step by step, to the end or until a time of the monotonic clock. Return the number of blobs removed.

    Raises:
        errors.ServiceUnavailable: the database or the blob store does not answer; the next run continues.
    """
    return _run_steps(db, blob_store, lambda: db.write(retention.purge_step, days=days), deadline)


def run_deletions(
    db: database.Database, blob_store: base.BlobStore, job_id: str | None = None, *, deadline: float | None = None
) -> int:
    """Remove what is left of the jobs that callers have deleted, as `run_purge` does.

    Of one job, without pauses: its caller waits for it.

    Raises:
        errors.ServiceUnavailable: the database or the blob store does not answer; the next run continues.
    """
    rest_ratio = REST_RATIO if job_id is None else 0.0
    return _run_steps(db, blob_store, lambda: db.write(retention.deletion_step, job_id), deadline, rest_ratio)


def _run_steps(
    db: database.Database,
    blob_store: base.BlobStore,
    step: Callable[[], retention.PurgeStepResult],
    deadline: float | None,
    rest_ratio: float = REST_RATIO,
) -> int:
    removed = 0
    while deadline is None or time.monotonic() < deadline:
        started = time.monotonic()
        batch = step()
        if not batch.jobs:
            break
        unused = db.read(known_blobs.unreferenced, batch.digests)
        blob_store.remove(unused)
        blob_store.renditions.remove_of_images(batch.source_digests)
        removed += len(unused)
        if deadline is not None and rest_ratio:
            time.sleep(rest_ratio * (time.monotonic() - started))
    return removed


def start_purge_thread(db: database.Database, blob_store: base.BlobStore, *, days: float) -> threading.Event:
    """Purge regularly in a thread of this process, until the event is set; with 0 days only what callers deleted."""

    def step() -> None:
        db.read(revision.check)
        reaper.continue_large_jobs(db, deadline=time.monotonic() + MAX_ROUND_SECONDS)  # perhaps no worker runs
        if removed := run_deletions(db, blob_store, deadline=time.monotonic() + MAX_ROUND_SECONDS):
            log.info("removed the bytes of %d images of deleted jobs", removed)
        if days:
            removed = run_purge(db, blob_store, days=days, deadline=time.monotonic() + MAX_ROUND_SECONDS)
            log.info("removed the bytes of %d images of jobs that finished more than %g days ago", removed, days)

    return periodic.start("purge", step, PURGE_INTERVAL_SECONDS, jitter=JITTER)


def main() -> int:
    """Purge; exit with 0, 2 for a bad setting, 3 if a service does not answer."""
    parser = argparse.ArgumentParser(
        prog="python -m core.maintenance.retention", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--days", type=float, required=True, help="age of the jobs to purge; at least an hour is assumed"
    )
    days = parser.parse_args().days
    return orphans.run_once(functools.partial(run_purge, days=days))


if __name__ == "__main__":
    sys.exit(main())
