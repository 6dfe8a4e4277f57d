"""`python -m jobs.doctor`: looks whether all is well, and says how to mend what is not."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa

from jobs import blobs, clock, database, errors, settings
from jobs.store import invariants, schema, workers

MOST_SKEW_SECONDS = 5
LEAST_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """What one look gave: all well, or what is wrong and how to mend it."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


def examine(wanted: settings.Settings) -> Iterator[Finding]:
    """All findings, one after the other; a database that does not answer ends the examination of it."""
    yield from _redis(wanted.redis_url)
    yield from _blobs(wanted.blobs)
    db = database.Database(wanted.database_url)
    try:
        for check in (_tables, _clock, _workers, _invariants):
            yield from db.read(check, wanted)
    except errors.DatabaseUnavailable as error:
        yield Finding("database", ok=False, detail=error.detail, mend="See to it, or correct SORTBELT_DATABASE_URL.")
    finally:
        db.close()


def _redis(url: str) -> list[Finding]:
    url = url.replace("redis+socket://", "unix://")
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            info: Any = client.info()
    except redis.RedisError as error:
        mend = "Work goes on without it, a second later at most. Start it, or correct SORTBELT_REDIS_URL."
        return [Finding("redis", ok=False, detail=f"It does not answer: {error}.", mend=mend)]
    policy = info.get("maxmemory_policy")
    return [
        Finding("redis", ok=True, detail=f"version {info['redis_version']}"),
        Finding(
            "redis policy",
            ok=policy == "noeviction",
            detail=f"maxmemory-policy is {policy}",
            mend="Set `maxmemory-policy noeviction`: an evicted bell is a bell not heard.",
        ),
    ]


def _blobs(where: str) -> Iterator[Finding]:
    try:
        blobs.open_blobs(where).check()
    except (errors.BlobsUnavailable, ValueError) as error:
        yield Finding("blobs", ok=False, detail=str(error), mend="Mend the store, or correct SORTBELT_BLOBS.")
        return
    yield Finding("blobs", ok=True, detail=f"{where} can be written")
    if not where.startswith("s3://"):
        free = shutil.disk_usage(Path(where)).free
        detail = f"{free / 1e9:.1f} GB are free"
        yield Finding("disk", free >= LEAST_FREE_BYTES, detail, "Make room: below 1 GB pictures may be refused soon.")


def _tables(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    return [Finding("tables", ok=True, detail=f"revision {schema.check(c)}, on {c.dialect.name}")]


def _clock(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    theirs = c.execute(sa.select(clock.now())).scalar_one()
    skew = abs((datetime.now(UTC) - theirs).total_seconds())
    detail = f"the database's is {skew:.1f} s from this machine's"
    return [
        Finding("clock", skew <= MOST_SKEW_SECONDS, detail, "Leases do not mind; logs will confuse. Run NTP on both.")
    ]


def _workers(c: sa.Connection, _: settings.Settings) -> list[Finding]:
    living, waiting = workers.living(c), invariants.open_images(c)
    detail = f"{len(living)} live; {waiting} images wait"
    return [Finding("workers", bool(living), detail, "Start one: python -m worker.")]


def _invariants(c: sa.Connection, wanted: settings.Settings) -> list[Finding]:
    late = 2 * max(wanted.lease_seconds, 5.0)
    looks: list[tuple[str, Callable[[], int], str]] = [
        ("ended images without result", lambda: invariants.ended_without_result(c), "This is a defect; report it."),
        ("results of open images", lambda: invariants.results_of_open_images(c), "This is a defect; report it."),
        ("miscounted jobs", lambda: invariants.miscounted_jobs(c), "This is a defect; report it."),
        ("complete but open jobs", lambda: invariants.unfinished_complete_jobs(c), "This is a defect; report it."),
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
