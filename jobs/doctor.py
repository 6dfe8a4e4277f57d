"""`python -m jobs.doctor`: looks whether all is well, and says how to mend what is not."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from jobs import blobs, clock, database, errors, settings, surroundings
from jobs.store import deliveries, invariants, purge, scans, schema, workers
from jobs.surroundings import Finding

LOOKED_AT = 200  # queued pictures whose bytes are looked for
START_A_COURIER = "Start a courier: python -m jobs.courier. If one runs, its log says why it does not get on."


def examine(wanted: settings.Settings) -> Iterator[Finding]:
    """All findings, one after the other; a database that does not answer ends the examination of it."""
    yield from surroundings.examine(wanted)
    db = database.Database(wanted.database_url)
    try:
        checks = (
            _tables,
            _durability,
            _clock,
            _workers,
            _models,
            _webhooks,
            _scans,
            _retention,
            _pictures,
            _invariants,
        )
        for check in checks:
            yield from db.read(check, wanted)
    except errors.DatabaseUnavailable as error:
        yield Finding("database", ok=False, detail=error.detail, mend="See to it, or correct SORTBELT_DATABASE_URL.")
    finally:
        db.close()


def _tables(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    return [Finding("tables", ok=True, detail=f"revision {schema.check(c)}, on {c.dialect.name}")]


def _durability(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    """Whether what is committed is on the disk: a 202 is a promise."""
    if c.dialect.name == "sqlite":
        mode = c.exec_driver_sql("PRAGMA journal_mode").scalar()
        mend = "Its folder must be on a local disk: SQLite writes ahead only there."
        return [Finding("durability", mode == "wal", f"journal_mode is {mode}", mend)]
    names = ("fsync", "synchronous_commit", "full_page_writes")
    off = [name for name in names if c.exec_driver_sql(f"SHOW {name}").scalar() == "off"]
    detail = f"{', '.join(off)} off" if off else f"{', '.join(names)} on"
    return [Finding("durability", not off, detail, f"Set {' and '.join(off)} on: jobs that were accepted may be lost.")]


def _clock(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    theirs = c.execute(sa.select(clock.now())).scalar_one()
    return [surroundings.clock_of("clock", "the database", (datetime.now(UTC) - theirs).total_seconds())]


def _workers(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    living, waiting = workers.living(c), invariants.open_images(c)
    at_work = sum(worker.gets_on for worker in living)
    detail = f"{len(living)} live, {at_work} of them get on; {waiting} images wait"
    mend = "See in their logs why they get nothing done." if living else "Start one: python -m worker."
    return [Finding("workers", at_work > 0, detail, mend)]


def _pictures(c: sa.Connection, wanted: settings.Settings) -> list[Finding]:
    """Whether the bytes of what waits are there; a bucket is not asked."""
    if wanted.blobs.startswith("s3://"):
        return []
    store, waiting = blobs.Folder(Path(wanted.blobs)), invariants.waiting_pictures(c, limit=LOOKED_AT)
    gone = sum(not store.path(sha256).exists() for sha256 in waiting)
    detail = f"{gone} of {len(waiting)} that wait have lost their bytes"
    mend = "They will fail as blob_missing. Is SORTBELT_BLOBS the folder that the API writes to?"
    return [Finding("pictures", gone == 0, detail, mend)]


def _models(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    refused = sorted({title for worker in workers.living(c) for title in worker.refuses})
    detail = f"refused by workers: {', '.join(refused)}" if refused else "no worker refuses any"
    mend = "`sortbelt models list` says why; promote another version, or roll back."
    return [Finding("models", not refused, detail, mend)]


def _webhooks(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    late = deliveries.overdue(c)
    detail = f"{late} are overdue by more than {deliveries.LATE_SECONDS:g} s"
    return [Finding("webhooks", late == 0, detail, START_A_COURIER)]


def _scans(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    late = scans.overdue(c)
    detail = f"{late} are overdue by more than {scans.LATE_SECONDS:g} s"
    return [Finding("scans", late == 0, detail, START_A_COURIER)]


def _retention(c: sa.Connection, wanted: settings.Settings) -> list[Finding]:
    """Whether what is not to be kept has gone."""
    if not wanted.retention_days:
        return [Finding("retention", ok=True, detail="jobs are kept for ever")]
    late = purge.overdue(c, days=wanted.retention_days)
    detail = f"{late} jobs are kept for more than {wanted.retention_days:g} days and one more"
    mend = "Is SORTBELT_RETENTION_DAYS set for the API too? `python -m jobs.purge` removes them now."
    return [Finding("retention", late == 0, detail, mend)]


def _invariants(c: sa.Connection, wanted: settings.Settings) -> list[Finding]:
    late = 2 * max(wanted.lease_seconds, 5.0)
    looks: list[tuple[str, Callable[[], int], str]] = [
        ("ended images without result", lambda: invariants.ended_without_result(c), "This is a defect; report it."),
        ("results of open images", lambda: invariants.results_of_open_images(c), "This is a defect; report it."),
        ("miscounted jobs", lambda: invariants.miscounted_jobs(c), "This is a defect; report it."),
        ("complete but open jobs", lambda: invariants.unfinished_complete_jobs(c), "This is a defect; report it."),
        ("ended jobs of which nobody is told", lambda: invariants.untold_jobs(c), "This is a defect; report it."),
        (
            "images attempted too often",
            lambda: invariants.attempted_too_often(c, max_attempts=wanted.max_attempts),
            "Was SORTBELT_MAX_ATTEMPTS lowered lately? Else it is a defect; report it.",
        ),
        (
            "forgotten leases",
            lambda: invariants.forgotten_leases(c, seconds=late),
            "No worker sweeps: start one, or see in its log why it cannot reach the database.",
        ),
    ]
    return [Finding(name, (count := look()) == 0, str(count), mend) for name, look, mend in looks]


def main() -> int:
    """Print the findings; 0 if all is well, 1 if something is not, 2 for a bad setting."""
    parser = argparse.ArgumentParser(prog="python -m jobs.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object for each finding")
    as_json = parser.parse_args().json
    well = True
    for finding in examine(settings.read_or_exit()):
        well &= finding.ok
        line = json.dumps(asdict(finding)) if as_json else _line(finding)
        print(line, flush=True)  # noqa: T201 (that is its answer)
    return 0 if well else 1


def _line(finding: Finding) -> str:
    line = f"{'ok ' if finding.ok else 'BAD'}  {finding.check}: {finding.detail}"
    return line if finding.ok or not finding.mend else f"{line}\n     {finding.mend}"


if __name__ == "__main__":
    sys.exit(main())
