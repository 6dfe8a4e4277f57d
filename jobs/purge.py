"""`python -m jobs.purge --days N`: remove the pictures and results of jobs that have been over for so long.

With `SORTBELT_RETENTION_DAYS` the API does it by itself, every few minutes; as many may as one likes.
"""

import argparse
import logging
import random
import sys
import threading
import time

from jobs import blobs, database, errors, settings
from jobs.store import blobs as store_blobs
from jobs.store import purge, schema

ROUND_SECONDS = 300.0  # between two rounds, a fifth more or less
BUSY_SECONDS = 60.0  # then a round ends, whatever is left
RESTS = 1.0  # how long is rested after each step, in lengths of that step: others write too

log = logging.getLogger(__name__)


def run(db: database.Database, store: blobs.Blobs, *, days: float, until: float | None = None) -> int:
    """Remove, some at a time, all there is or until a moment of the monotonic clock; returns how many blobs have gone.

    Raises:
        errors.Unavailable: the database or the blobs do not answer; what was not removed is at the next run.
    """
    removed = 0
    while until is None or time.monotonic() < until:
        started = time.monotonic()
        step = db.write(purge.purge, days=days)
        if not step.jobs:
            break
        unused = db.read(store_blobs.unused, step.digests)
        store.remove(unused)
        removed += len(unused)
        if until is not None:
            time.sleep(RESTS * (time.monotonic() - started))
    return removed


def keep_up(db: database.Database, store: blobs.Blobs, *, days: float) -> threading.Event:
    """Purge now and then in a thread of this process, until the event is set."""
    stop = threading.Event()
    threading.Thread(target=_rounds, args=(db, store, days, stop), name="purge", daemon=True).start()
    return stop


def _rounds(db: database.Database, store: blobs.Blobs, days: float, stop: threading.Event) -> None:
    # A wait before the first round too, of random length: processes that are started together do not purge together.
    while not stop.wait(random.uniform(0.8, 1.2) * ROUND_SECONDS):  # noqa: S311 (jitter, not a secret)
        try:
            db.read(schema.check)
            removed = run(db, store, days=days, until=time.monotonic() + BUSY_SECONDS)
            log.info("%d pictures of jobs that were over for %g days are removed", removed, days)
        except errors.Unavailable as error:
            log.warning("%s", error.detail)
        except Exception:
            log.exception("a purge broke down; the next one is soon")


def main() -> int:
    """Purge; 0, 2 for a bad setting, 3 if something does not answer."""
    parser = argparse.ArgumentParser(prog="python -m jobs.purge", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--days", type=float, required=True, help="keep what was over more lately than this; and than an hour"
    )
    days = parser.parse_args().days
    wanted = settings.read_or_exit()
    try:
        removed = run(database.Database(wanted.database_url), blobs.open_blobs(wanted.blobs), days=days)
    except errors.Unavailable as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only voice)
        return 3
    print(f"{removed} pictures removed")  # noqa: T201 (that is its answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
