"""What a part of Sortbelt stands on: its settings, its libraries, Redis, disks. The doctor asks."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import redis

from jobs import blobs, errors, settings

MOST_SKEW_SECONDS = 5
LEAST_FREE_BYTES = 1_000_000_000
LEAST_FREE_FILES = 100_000
POOL = 20  # connections of one process to PostgreSQL (jobs/database.py)
# The first release of each line without the hole CVE-2025-49844, by which a script leaves its sandbox.
MENDED_REDIS = {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2}
PINNED = {"celery": "5.6.3", "kombu": "5.7.0"}  # docs/decisions/0002-celery.md
LEAST = {"pillow": (12, 3), "sqlalchemy": (2, 1), "psycopg": (3, 2), "redis": (6, 0)}


@dataclass(frozen=True)
class Finding:
    """What one look gave: all well, or what is wrong and how to mend it."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


def examine(wanted: settings.Settings) -> Iterator[Finding]:
    """All findings."""
    yield _settings(wanted)
    yield _libraries()
    yield from _redis(wanted.redis_url)
    yield from _blobs(wanted.blobs)
    if wanted.database_url.startswith("sqlite:///"):
        yield from _room("database disk", Path(wanted.database_url.removeprefix("sqlite:///")).absolute().parent)


def clock_of(check: str, whose: str, seconds: float) -> Finding:
    """A finding about a clock that is so many seconds from ours."""
    detail = f"{whose}'s is {abs(seconds):.1f} s from this machine's"
    mend = "Leases do not mind; bells may be thrown away as old, and logs will confuse. Run NTP on both."
    return Finding(check, abs(seconds) <= MOST_SKEW_SECONDS, detail, mend)


def _settings(wanted: settings.Settings) -> Finding:
    """Settings that are each fine, and together are not."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    decoders = wanted.decoders * wanted.decode_memory_bytes
    wrong = {
        "SORTBELT_DECODE_SECONDS must be less than SORTBELT_STUCK_SECONDS, or one slow picture ends a worker.": (
            wanted.decode_seconds >= wanted.stuck_seconds
        ),
        "SORTBELT_DRAIN_SECONDS must be less than SORTBELT_STUCK_SECONDS.": (
            wanted.drain_seconds >= wanted.stuck_seconds
        ),
        "SORTBELT_MAX_IMAGE_BYTES must not be more than SORTBELT_MAX_BODY_BYTES, or such a picture never comes in.": (
            wanted.max_image_bytes > wanted.max_body_bytes
        ),
        f"SORTBELT_API_THREADS must not be more than {POOL}, the connections that they share.": (
            wanted.api_threads > POOL
        ),
        "SORTBELT_LEASE_SECONDS must be 4 at least: a busy machine may be silent for that long.": (
            wanted.lease_seconds < 4
        ),
        f"SORTBELT_DECODERS times SORTBELT_DECODE_MEMORY_BYTES is {decoders / 1e9:.1f} GB, more than there is.": (
            decoders > memory
        ),
    }
    said = [sentence for sentence, is_wrong in wrong.items() if is_wrong]
    return Finding("settings", not said, "they fit together" if not said else "some do not fit", " ".join(said))


def _libraries() -> Finding:
    wrong = []
    for name, version in _installed({*PINNED, *LEAST}).items():
        if name in PINNED and version != PINNED[name]:
            wrong.append(f"{name} is {version}, and {PINNED[name]} is the one that survives a restart of Redis")
        least = LEAST.get(name, ())
        if tuple(int(part) for part in version.split(".")[: len(least)] if part.isdigit()) < least:
            wrong.append(f"{name} is {version}, older than {'.'.join(map(str, least))}")
    mend = "Install what requirements/ pins: make setup, or build the image again."
    return Finding("libraries", not wrong, "; ".join(wrong) or "as pinned", mend)


def _installed(names: set[str]) -> dict[str, str]:
    found = {}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _redis(url: str) -> Iterator[Finding]:
    url = url.replace("redis+socket://", "unix://")
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            info: Any = client.info()
            seconds, micros = client.time()
    except redis.RedisError as error:
        mend = "Work goes on without it, a second later at most. Start it, or correct SORTBELT_REDIS_URL."
        yield Finding("redis", ok=False, detail=f"It does not answer: {error}.", mend=mend)
        return
    yield _redis_version(info["redis_version"], private=url.startswith("unix://"))
    yield from _redis_settings(info)
    yield clock_of("redis clock", "Redis", time.time() - seconds - micros / 1e6)


def _redis_version(version: str, *, private: bool) -> Finding:
    major, minor, patch, *_ = (*(int(part) for part in version.split(".")[:3]), 0, 0)
    mended = MENDED_REDIS.get((major, minor))
    # A socket file of our own is reached by nobody else.
    hole = not private and (mended is not None and patch < mended)
    old = (major, minor) < (6, 2)
    mend = (
        "Take 6.2 or later." if old else f"Take {major}.{minor}.{mended}: this one lets scripts out of their sandbox."
    )
    return Finding("redis", not (hole or old), f"version {version}", mend)


def _redis_settings(info: Any) -> Iterator[Finding]:
    policy, most = info.get("maxmemory_policy"), info.get("maxmemory", 0)
    yield Finding(
        "redis policy",
        ok=policy == "noeviction",
        detail=f"maxmemory-policy is {policy}",
        mend="Set `maxmemory-policy noeviction`: an evicted bell is a bell not heard.",
    )
    share = info["used_memory"] / most if most else 0.0
    mend = "Give it more memory: a full Redis refuses bells, and work waits for up to a second."
    yield Finding("redis memory", share < 0.9, f"{share:.0%} of maxmemory is used" if most else "no limit is set", mend)
    master = info.get("role") == "master"
    mend = "Point SORTBELT_REDIS_URL at the master: this one refuses to be written."
    yield Finding("redis role", master, f"it is a {info.get('role')}", mend)


def _blobs(where: str) -> Iterator[Finding]:
    try:
        blobs.open_blobs(where).check()
    except (errors.BlobsUnavailable, ValueError) as error:
        yield Finding("blobs", ok=False, detail=str(error), mend="Mend the store, or correct SORTBELT_BLOBS.")
        return
    yield Finding("blobs", ok=True, detail=f"{where} can be written")
    if not where.startswith("s3://"):
        yield from _room("disk", Path(where))


def _room(check: str, folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    free, files = shutil.disk_usage(folder).free, os.statvfs(folder)
    detail = f"{free / 1e9:.1f} GB are free"
    yield Finding(check, free >= LEAST_FREE_BYTES, detail, "Make room: below 1 GB pictures may be refused soon.")
    if files.f_files:
        few = files.f_favail < LEAST_FREE_FILES
        yield Finding(f"{check} files", not few, f"room for {files.f_favail:,} more files", "Make room for more files.")
