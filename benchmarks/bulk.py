"""Bulk throughput: `sortbelt enqueue` of a folder against a real stack, from the command's start to its end."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness, sample_images, stack
from sortbelt import Client


@dataclass(frozen=True)
class BulkResult:
    """One folder, end to end."""

    run: harness.RunResult
    cpu_us: dict[str, float]
    """Microseconds of CPU per image, by role."""
    cached: int
    """Images whose result was copied from an earlier image with the same bytes."""


def enqueue(server: stack.Stack, folder: Path, *, source: str | None = None) -> BulkResult:
    """Run one `sortbelt enqueue`; the labels are fetched after the clock has stopped.

    With a `source`, the folder is in that source of the server, and no bytes are uploaded.

    Raises:
        RuntimeError: the command failed: not every image got a label.
    """
    before = server.usage()
    started = time.perf_counter()
    arguments = [str(folder), "--fresh"] if source is None else ["--on-server", f"{source}/{folder.name}"]
    summary, client_seconds = _run_enqueue(server, arguments)
    seconds = time.perf_counter() - started
    cpu_seconds = {"client": client_seconds, **server.usage().since(before)}
    with Client(server.url, server.key) as client:
        results = {result.image: result for result in client.results(summary["job_id"])}
    name_prefix = "" if source is None else f"{folder.name}/"
    labels = [results[f"{name_prefix}{path.name}"].label or "" for path in sample_images.find_jpegs(folder)]
    cached = sum(result.cached for result in results.values())
    cpu_us = {role: used / len(labels) * 1e6 for role, used in cpu_seconds.items()}
    return BulkResult(harness.RunResult(labels, seconds, sum(cpu_seconds.values())), cpu_us, cached)


def _run_enqueue(server: stack.Stack, arguments: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run the command; return the summary it printed last, and its seconds of CPU."""
    command = [sys.executable, "-m", "sortbelt", "enqueue", *arguments, "--json"]
    with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 (for the type checker)
        stdout = process.stdout.read()
        _, status, resource_usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`sortbelt enqueue` ended with exit code {process.returncode}: {stdout[-500:]!r}")
    summary: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return summary, resource_usage.ru_utime + resource_usage.ru_stime


def make_fresh_folder(paths: Sequence[Path], target_dir: Path, count: int, run_id: str) -> Path:
    """Replace a folder by `count` files with bytes that no server has seen."""
    shutil.rmtree(target_dir, ignore_errors=True)
    sample_images.write_unique_copies(paths, target_dir, count, run_id.encode())
    return target_dir
