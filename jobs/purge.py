"""`python -m jobs.purge --days N`: remove the pictures and results of jobs that have been over for so long."""

import argparse
import sys

from jobs import blobs, database, errors, settings
from jobs.store import blobs as store_blobs
from jobs.store import deliveries, purge


def run(db: database.Database, store: blobs.Blobs, *, days: float) -> int:
    """Remove, a few jobs at a time; returns how many blobs went with them.

    Raises:
        errors.Unavailable: the database or the blobs do not answer; what was not removed is at the next run.
    """
    removed = 0
    while digests := db.write(purge.purge, days=days):
        unused = db.read(store_blobs.unused, digests)
        store.remove(unused)
        removed += len(unused)
    db.write(deliveries.forget)
    return removed


def main() -> int:
    """Purge; 0, 2 for a bad setting, 3 if something does not answer."""
    parser = argparse.ArgumentParser(prog="python -m jobs.purge", description=__doc__)
    parser.add_argument("--days", type=float, required=True, help="keep what was over more lately than this")
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
