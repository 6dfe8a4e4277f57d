"""`python -m core.maintenance.doctor`: check an installation, and say how to fix what is wrong."""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from core import errors, settings, specs
from core.db import clock, database, revision, task_leases
from core.db.queries import invariants, retention, scans, url_fetches, webhook_deliveries, workers
from core.maintenance import preflight
from core.maintenance.preflight import CheckResult
from core.storage import local

MAX_BLOBS_CHECKED = 200  # queued images whose blobs are checked
START_DISPATCHER_HINT = "Start a dispatcher: python -m dispatcher. If one is running, see its log for the reason."
REPORT_HINT = "This is a defect; report it."


def run_checks(config: settings.Settings) -> Iterator[CheckResult]:
    """Run all checks, one after the other; those of the database end when it does not answer."""
    yield from preflight.run_checks(config)
    db = database.Database(config.database_url)
    try:
        checks = (
            _check_tables,
            _check_durability,
            _check_clock,
            _check_workers,
            _check_models,
            _check_dispatcher,
            _check_retention,
            _check_waiting_blobs,
            _check_invariants,
        )
        for check in checks:
            yield from db.read(check, config)
    except errors.DatabaseUnavailable as error:
        yield CheckResult(
            "database", ok=False, detail=error.detail, hint="Repair the database, or correct SORTBELT_DATABASE_URL."
        )
    finally:
        db.close()


def _check_tables(conn: sa.Connection, _: settings.Settings) -> list[CheckResult]:
    return [CheckResult("tables", ok=True, detail=f"revision {revision.check(conn)}, on {conn.dialect.name}")]


def _check_durability(conn: sa.Connection, _: settings.Settings) -> list[CheckResult]:
    """Check that a commit is on disk when it returns: a 202 is a promise."""
    if conn.dialect.name == "sqlite":
        mode = conn.exec_driver_sql("PRAGMA journal_mode").scalar()
        hint = "Move its folder to a local disk: SQLite supports write-ahead logging only there."
        return [CheckResult("durability", mode == "wal", f"journal_mode is {mode}", hint)]
    names = ("fsync", "synchronous_commit", "full_page_writes")
    disabled = [name for name in names if conn.exec_driver_sql(f"SHOW {name}").scalar() == "off"]
    detail = f"{', '.join(disabled)} off" if disabled else f"{', '.join(names)} on"
    return [
        CheckResult("durability", not disabled, detail, f"Set {' and '.join(disabled)} on: accepted jobs may be lost.")
    ]


def _check_clock(conn: sa.Connection, _: settings.Settings) -> list[CheckResult]:
    database_time = conn.execute(sa.select(clock.now())).scalar_one()
    return [preflight.clock_skew_result("clock", "the database", (datetime.now(UTC) - database_time).total_seconds())]


def _check_workers(conn: sa.Connection, _: settings.Settings) -> list[CheckResult]:
    live_workers, open_images = workers.list_alive(conn), invariants.queued_images(conn)
    progressing = sum(worker.is_progressing for worker in live_workers)
    detail = f"{len(live_workers)} live, {progressing} of them make progress; {open_images} images are queued"
    hint = "See their logs for the reason." if live_workers else "Start one: python -m worker."
    return [CheckResult("workers", progressing > 0, detail, hint)]


def _check_waiting_blobs(conn: sa.Connection, config: settings.Settings) -> list[CheckResult]:
    """Check that the bytes of queued images exist in the blob folder; a bucket is not checked."""
    if config.blob_store.startswith(specs.S3_SCHEME):
        return []
    store, digests = (
        local.LocalBlobStore(Path(config.blob_store)),
        invariants.next_queued_digests(conn, limit=MAX_BLOBS_CHECKED),
    )
    missing = sum(not store.path(sha256).exists() for sha256 in digests)
    detail = f"{missing} of {len(digests)} queued images have no bytes in the blob store"
    hint = "They will fail as blob_missing. Check that SORTBELT_BLOB_STORE is the folder that the API writes to."
    return [CheckResult("queued blobs", missing == 0, detail, hint)]


def _check_models(conn: sa.Connection, _: settings.Settings) -> list[CheckResult]:
    rejected = sorted({title for worker in workers.list_alive(conn) for title in worker.rejected_models})
    detail = f"rejected by workers: {', '.join(rejected)}" if rejected else "all are served"
    hint = "`sortbelt models list` shows the reason; promote another version, or roll back."
    return [CheckResult("models", not rejected, detail, hint)]


def _check_dispatcher(conn: sa.Connection, _: settings.Settings) -> list[CheckResult]:
    tasks = {"webhooks": webhook_deliveries, "scans": scans, "fetches": url_fetches}
    counts = {name: queries.count_overdue(conn) for name, queries in tasks.items()}
    late = f"are overdue by more than {task_leases.OVERDUE_SECONDS:g} s"
    return [CheckResult(name, count == 0, f"{count} {late}", START_DISPATCHER_HINT) for name, count in counts.items()]


def _check_retention(conn: sa.Connection, config: settings.Settings) -> list[CheckResult]:
    """Check that old jobs were purged."""
    if not config.retention_days:
        return [CheckResult("retention", ok=True, detail="jobs are stored without end")]
    overdue = retention.count_overdue(conn, days=config.retention_days)
    detail = f"{overdue} jobs are a day or more past {config.retention_days:g} days"
    hint = (
        "Check that SORTBELT_RETENTION_DAYS is set for the API too; `python -m core.maintenance.retention` purges now."
    )
    return [CheckResult("retention", overdue == 0, detail, hint)]


def _check_invariants(conn: sa.Connection, config: settings.Settings) -> list[CheckResult]:
    grace_seconds = 2 * max(config.lease_seconds, 5.0)
    violations = [
        *[(name, count(conn), REPORT_HINT) for name, count in invariants.CHECKS.items()],
        ("finished jobs without webhook delivery", invariants.jobs_without_delivery(conn), REPORT_HINT),
        (
            "images over the attempt limit",
            invariants.images_over_max_attempts(conn, max_attempts=config.max_attempts),
            "Unless SORTBELT_MAX_ATTEMPTS was lowered lately, this is a defect; report it.",
        ),
        (
            "stale leases",
            invariants.stale_leases(conn, seconds=grace_seconds),
            "No worker requeues them: start one, or see its log for why it cannot reach the database.",
        ),
    ]
    return [CheckResult(name, count == 0, str(count), hint) for name, count, hint in violations]


def main() -> int:
    """Print the results; exit with 0 if all is well, 1 if not, 2 for a bad setting."""
    parser = argparse.ArgumentParser(prog="python -m core.maintenance.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object for each check")
    as_json = parser.parse_args().json
    all_ok = True
    for result in run_checks(settings.read_or_exit()):
        all_ok &= result.ok
        line = _to_json(result) if as_json else _format_result(result)
        print(line, flush=True)  # noqa: T201 (the output)
    return 0 if all_ok else 1


def _to_json(result: CheckResult) -> str:
    """Return one JSON object; its keys are part of the public contract."""
    return json.dumps({"check": result.check, "ok": result.ok, "detail": result.detail, "mend": result.hint})


def _format_result(result: CheckResult) -> str:
    mark = "WARN" if result.is_warning else "ok  " if result.ok else "BAD "
    line = f"{mark} {result.check}: {result.detail}"
    shows_hint = result.hint and (result.is_warning or not result.ok)
    return f"{line}\n     {result.hint}" if shows_hint else line


if __name__ == "__main__":
    sys.exit(main())
