"""Bulk: folders through a real stack by `sortbelt enqueue`, from the command's start to its end."""

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

from bench import loop, pictures, stack

NO_REFERENCE = "this server has no POST /v1/blobs/check"


@dataclass(frozen=True)
class Bulk:
    """One folder, end to end."""

    run: loop.Run
    cpu_us: dict[str, float]
    """Microseconds of CPU for each picture, by role."""
    cached: int
    """Pictures whose result was taken over from an earlier one of the same bytes."""


def enqueue(server: stack.Stack, folder: Path, *, source: str | None = None) -> Bulk:
    """One `sortbelt enqueue`; the labels are fetched when the clock has stopped.

    With a `source` the folder lies in one of the server's, and nothing is sent.

    Raises:
        RuntimeError: not every picture got a label.
    """
    before = server.usage()
    started = time.perf_counter()
    what = [str(folder), "--fresh"] if source is None else ["--on-server", f"{source}/{folder.name}"]
    counts, client_seconds = _command(server, what)
    seconds = time.perf_counter() - started
    cpu = {"client": client_seconds, **server.usage().since(before)}
    results = _results(server, counts["job_id"])
    named = "" if source is None else f"{folder.name}/"
    labels = [results[f"{named}{path.name}"]["label"] or "" for path in pictures.found(folder)]
    cached = sum(bool(result.get("cached")) for result in results.values())
    each = {role: used / len(labels) * 1e6 for role, used in cpu.items()}
    return Bulk(loop.Run(labels, seconds, sum(cpu.values())), each, cached)


def _command(server: stack.Stack, what: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run it; what it printed last, and its seconds of CPU."""
    command = [sys.executable, "-m", "sortbelt", "enqueue", *what, "--json"]
    with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 (for the type checker)
        out = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`sortbelt enqueue` ended with exit code {process.returncode}: {out[-500:]!r}")
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer, used.ru_utime + used.ru_stime


def _results(server: stack.Stack, job_id: str) -> dict[str, Any]:
    """Every result of a job, by the picture's name."""
    found: dict[str, Any] = {}
    url = f"/v1/jobs/{job_id}/results?limit=1000"
    with server.client() as client:
        while url:
            page = client.get(url).raise_for_status()
            found |= {result["image"]: result for result in page.json()["results"]}
            url = page.links.get("next", {}).get("url", "")
    return found


def knows_references(server: stack.Stack) -> bool:
    """Whether the server can be asked which pictures it has."""
    with server.client() as client:
        return client.post("/v1/blobs/check", json={"sha256": ["0" * 64]}).status_code not in {404, 405}


def fresh(paths: Sequence[Path], where: Path, count: int, run: str) -> Path:
    """A folder of `count` files that no server has seen, in place of what was there."""
    shutil.rmtree(where, ignore_errors=True)
    pictures.copies(paths, where, count, run.encode())
    return where
