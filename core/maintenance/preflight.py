"""Preflight checks: settings, libraries, Redis, disks. `sortbelt doctor` runs them."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import redis

from core import errors, settings, specs
from core.broker import redis_clients
from core.db import database
from core.sandbox import child_command, landlock, seccomp
from core.storage import factory

MAX_CLOCK_SKEW_SECONDS = 5
CONFINEMENT_TEST_SECONDS = 60
MIN_FREE_BYTES = 1_000_000_000
MIN_FREE_INODES = 100_000
# The first release of each line without the hole CVE-2025-49844, by which a script leaves its sandbox.
PATCHED_REDIS_VERSIONS = {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2}
PINNED_VERSIONS = {"celery": "5.6.3", "kombu": "5.7.0"}  # docs/decisions/0002-celery.md
MIN_VERSIONS = {"pillow": (12, 3), "sqlalchemy": (2, 1), "psycopg": (3, 2), "redis": (6, 0)}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: all is well, or what is wrong and how to fix it."""

    check: str
    ok: bool
    detail: str
    hint: str = ""
    is_warning: bool = False
    """It works, and something should be changed all the same."""


def run_checks(config: settings.Settings) -> Iterator[CheckResult]:
    """Run all preflight checks."""
    yield _check_settings(config)
    yield from _check_renamed_settings(os.environ)
    yield _check_libraries()
    yield _check_sandbox()
    yield from _check_redis(config.redis_url)
    yield from _check_blob_store(config.blob_store)
    if config.database_url.startswith("sqlite:///"):
        yield from _check_free_space(
            "database disk", Path(config.database_url.removeprefix("sqlite:///")).absolute().parent
        )


def clock_skew_result(check: str, peer: str, skew_seconds: float) -> CheckResult:
    """Report a clock that is this many seconds from ours."""
    detail = f"{peer}'s is {abs(skew_seconds):.1f} s from this machine's"
    hint = "Run NTP on both: wake-up messages may expire early, and logs are hard to compare. Leases are not affected."
    return CheckResult(check, abs(skew_seconds) <= MAX_CLOCK_SKEW_SECONDS, detail, hint)


def _check_settings(config: settings.Settings) -> CheckResult:
    """Check combinations of settings that are each valid."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    decoder_bytes = config.decoder_processes * config.decode_memory_bytes
    problems = {
        "SORTBELT_DECODE_SECONDS must be less than SORTBELT_WATCHDOG_SECONDS, or one slow image ends a worker.": (
            config.decode_seconds >= config.watchdog_seconds
        ),
        "SORTBELT_TASK_SECONDS must be less than SORTBELT_WATCHDOG_SECONDS.": (
            config.task_seconds >= config.watchdog_seconds
        ),
        "SORTBELT_MAX_IMAGE_BYTES must not be more than SORTBELT_MAX_BODY_BYTES: no larger image can be uploaded.": (
            config.max_image_bytes > config.max_body_bytes
        ),
        f"SORTBELT_API_THREADS must not be more than {database.POSTGRES_POOL_SIZE}, the size of the connection pool.": (
            config.api_threads > database.POSTGRES_POOL_SIZE
        ),
        "SORTBELT_LEASE_SECONDS must be at least 4: on a busy machine, heartbeats may be that late.": (
            config.lease_seconds < 4
        ),
        f"SORTBELT_DECODER_PROCESSES times SORTBELT_DECODE_MEMORY_BYTES is {decoder_bytes / 1e9:.1f} GB, too much.": (
            decoder_bytes > memory
        ),
    }
    messages = [sentence for sentence, is_wrong in problems.items() if is_wrong]
    return CheckResult("settings", not messages, "consistent" if not messages else "inconsistent", " ".join(messages))


def _check_renamed_settings(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Warn of variables with a name of the release before."""
    for old, new in settings.renamed_variables(environ).items():
        detail = f"{old} is now {new}"
        yield CheckResult(
            "setting names", ok=True, detail=detail, hint=f"Rename it to {new}: 0.3 rejects {old}.", is_warning=True
        )


def _check_libraries() -> CheckResult:
    problems = []
    for name, version in _installed_versions({*PINNED_VERSIONS, *MIN_VERSIONS}).items():
        if name in PINNED_VERSIONS and version != PINNED_VERSIONS[name]:
            problems.append(
                f"{name} is {version}, but {PINNED_VERSIONS[name]} is the version that survives a restart of Redis"
            )
        min_version = MIN_VERSIONS.get(name, ())
        if tuple(int(part) for part in version.split(".")[: len(min_version)] if part.isdigit()) < min_version:
            problems.append(f"{name} is {version}, older than {'.'.join(map(str, min_version))}")
    hint = "Install the versions that requirements/ pins: make setup, or rebuild the container image."
    return CheckResult("libraries", not problems, "; ".join(problems) or "as pinned", hint)


def _check_sandbox() -> CheckResult:
    """Report what this kernel offers to confine the processes that decode images, and whether it works in one."""
    abi, has_seccomp = landlock.abi_version(), seccomp.is_available()
    if refused := _refused_confinement():
        detail = f"this kernel has {' and '.join(refused)}, but a process cannot use it"
        hint = f"Let the container runtime allow {' and '.join(refused)}: decoders are confined less without."
        return CheckResult("sandbox", ok=True, detail=detail, hint=hint, is_warning=True)
    found = [f"Landlock {abi}"] * bool(abi) + ["seccomp"] * has_seccomp
    missing = ["Landlock"] * (not abi) + ["seccomp"] * (not has_seccomp)
    detail = f"this kernel has {' and '.join(found) or 'neither Landlock nor seccomp'}"
    hint = f"Use a kernel, and a container runtime, with {' and '.join(missing)}: decoders are confined less without."
    return CheckResult("sandbox", ok=True, detail=detail, hint=hint if missing else "", is_warning=bool(missing))


def _refused_confinement() -> list[str]:
    """Confine a process as decoders are; return what the kernel has and refuses, in the order of `confine`."""
    command = child_command.command("core.sandbox.confinement")
    done = subprocess.run(
        command,
        env=child_command.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=CONFINEMENT_TEST_SECONDS,
    )
    return ["confinement"] if done.returncode else done.stdout.split()


def _installed_versions(names: set[str]) -> dict[str, str]:
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _check_redis(url: str) -> Iterator[CheckResult]:
    try:
        with redis_clients.create(url) as client:
            redis_info: Any = client.info()
            seconds, microseconds = client.time()
    except redis.RedisError as error:
        hint = "Start it, or correct SORTBELT_REDIS_URL. Without it, work begins up to a second later."
        yield CheckResult("redis", ok=False, detail=f"It does not answer: {error}.", hint=hint)
        return
    yield _check_redis_version(
        redis_info["redis_version"], private=redis_clients.redis_py_url(url).startswith("unix://")
    )
    yield from _check_redis_settings(redis_info)
    yield clock_skew_result("redis clock", "Redis", time.time() - seconds - microseconds / 1e6)


def _check_redis_version(version: str, *, private: bool) -> CheckResult:
    major, minor, patch, *_ = (*(int(part) for part in version.split(".")[:3]), 0, 0)
    patched = PATCHED_REDIS_VERSIONS.get((major, minor))
    # A private socket file cannot be reached by others.
    is_vulnerable = not private and (patched is not None and patch < patched)
    is_outdated = (major, minor) < (6, 2)
    hint = (
        "Use 6.2 or later."
        if is_outdated
        else f"Use {major}.{minor}.{patched}: in this version, scripts can leave their sandbox."
    )
    return CheckResult("redis", not (is_vulnerable or is_outdated), f"version {version}", hint)


def _check_redis_settings(redis_info: Any) -> Iterator[CheckResult]:
    policy, max_memory = redis_info.get("maxmemory_policy"), redis_info.get("maxmemory", 0)
    yield CheckResult(
        "redis policy",
        ok=policy == "noeviction",
        detail=f"maxmemory-policy is {policy}",
        hint="Set `maxmemory-policy noeviction`: else Redis may evict wake-up messages.",
    )
    used_fraction = redis_info["used_memory"] / max_memory if max_memory else 0.0
    hint = "Give it more memory: a full Redis rejects wake-up messages, and work begins up to a second later."
    yield CheckResult(
        "redis memory",
        used_fraction < 0.9,
        f"{used_fraction:.0%} of maxmemory is used" if max_memory else "no limit is set",
        hint,
    )
    is_master = redis_info.get("role") == "master"
    hint = "Point SORTBELT_REDIS_URL at the master: a replica rejects writes."
    yield CheckResult("redis role", is_master, f"it is a {redis_info.get('role')}", hint)


def _check_blob_store(location: str) -> Iterator[CheckResult]:
    try:
        factory.open_blob_store(location).check()
    except (errors.BlobsUnavailable, ValueError) as error:
        yield CheckResult(
            "blobs", ok=False, detail=str(error), hint="Repair the store, or correct SORTBELT_BLOB_STORE."
        )
        return
    yield CheckResult("blobs", ok=True, detail=f"{location} is writable")
    if not location.startswith(specs.S3_SCHEME):
        yield from _check_free_space("disk", Path(location))


def _check_free_space(check: str, folder: Path) -> Iterator[CheckResult]:
    if not folder.is_dir():
        return
    free, filesystem = shutil.disk_usage(folder).free, os.statvfs(folder)
    detail = f"{free / 1e9:.1f} GB are free"
    yield CheckResult(check, free >= MIN_FREE_BYTES, detail, "Free some space: below 1 GB, images may be rejected.")
    if filesystem.f_files:
        is_low = filesystem.f_favail < MIN_FREE_INODES
        yield CheckResult(
            f"{check} files", not is_low, f"space for {filesystem.f_favail:,} more files", "Delete files."
        )
