"""`python -m core.maintenance.orphans`: remove the blobs that no row refers to: of submissions that were rejected late.

The API does this itself, every few hours. Any number of processes may do it at once.
"""

import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator

from core import errors, settings
from core.concurrency import periodic
from core.db import database, revision
from core.db.queries import installation, known_blobs
from core.storage import base, factory

SWEEP_INTERVAL_SECONDS = 4 * 3600.0  # between two sweeps
FIRST_SWEEP_SECONDS = 600.0
JITTER = 0.2  # of these times
BLOBS_PER_STEP = 1000
REST_RATIO = 1.0  # pause after each step, in durations of that step: others need the database too

log = logging.getLogger(__name__)


def sweep(db: database.Database, blob_store: base.BlobStore, *, rest_ratio: float = 0.0) -> int:
    """Remove the blobs older than an hour that no row refers to. Return how many.

    A store that another database has marked as its own is left alone: that one knows its blobs.

    Raises:
        errors.ServiceUnavailable: the database or the blob store does not answer, and the next sweep continues; or a
            blob cannot be removed, and the others are.
    """
    db.read(revision.check)
    if not blob_store.mark_owner(db.write(installation.get_or_create_id)):
        log.warning("no blobs were removed: the blob store belongs to another database")
        return 0
    removed, first_error = 0, None
    for digests in _steps(blob_store.list_old(), rest_ratio):
        orphans = db.read(known_blobs.unreferenced, digests)
        try:
            blob_store.remove(orphans)
            removed += len(orphans)
        except errors.BlobsUnavailable as error:  # one that cannot be removed would else keep all that come after it
            blob_store.check()
            first_error = first_error or error
    for digests in _steps((rendition.sha256 for rendition in blob_store.renditions.list_all()), rest_ratio):
        # A thumbnail may have been made while its image was deleted.
        blob_store.renditions.remove_of_images(db.read(known_blobs.without_images, digests))
    if first_error is not None:
        raise first_error
    return removed


def _steps(digests: Iterator[str], rest_ratio: float) -> Iterator[list[str]]:
    """Yield digests in batches, with a pause after each that depends on how long its work took."""
    while batch := list(itertools.islice(digests, BLOBS_PER_STEP)):
        started = time.monotonic()
        yield batch
        time.sleep(rest_ratio * (time.monotonic() - started))


def start_sweep_thread(db: database.Database, blob_store: base.BlobStore) -> None:
    """Sweep regularly, in a thread of this process."""

    def step() -> None:
        blob_store.remove_temp_files()
        if removed := sweep(db, blob_store, rest_ratio=REST_RATIO):
            log.info("removed %d blobs that no row refers to", removed)

    periodic.start("sweep", step, SWEEP_INTERVAL_SECONDS, first_seconds=FIRST_SWEEP_SECONDS, jitter=JITTER)


def run_once(remove: Callable[[database.Database, base.BlobStore], int]) -> int:
    """Remove blobs and print how many; return the exit code, 3 if a service does not answer.

    With a bad setting the process ends with 2.
    """
    config = settings.read_or_exit()
    try:
        removed = remove(database.Database(config.database_url), factory.open_blob_store(config.blob_store))
    except errors.ServiceUnavailable as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only output)
        return 3
    print(f"{removed} blobs removed")  # noqa: T201 (the output)
    return 0


if __name__ == "__main__":
    sys.exit(run_once(sweep))
