"""Crash recovery: enqueue a folder while processes are killed: `python -m benchmarks.crash_recovery --count 100000`.

`sortbelt enqueue` sends tiny images, each with a numbered comment, to a `sortbelt up`. A proxy between them counts the
comments and sends SIGKILL to the enqueuer, the API and the worker, each once, during the upload; the command is run
again until it ends. Then server, database and proxy must agree that each image was classified exactly once.
"""

import argparse
import contextlib
import functools
import io
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib import parse

import psutil
import sqlalchemy as sa
from PIL import Image

from benchmarks import process_usage, report, stack
from core.db import database
from core.db.queries import invariants
from sortbelt import Client
from sortbelt.bulk import runner
from sortbelt.client import image_files
from tests.faults import tcp_proxy

MODEL = "cookpad-cnn"  # the faster bundle: the network does not matter here
WARMUP_IMAGES = 1_000  # memory must stay flat after these
KILL_AT_SHARE = {"enqueuer": 0.25, "api": 0.5, "worker": 0.75}  # share of the images sent when SIGKILL is sent
# Uploads in flight may be cut off twice: when the enqueuer is killed, and when the API is.
MAX_RESENT = 2 * runner.UPLOAD_THREADS * image_files.MAX_BATCH_IMAGES
COMMENT_FORMAT = b"<image %07d>"
STAMP_PATTERN = re.compile(re.escape(COMMENT_FORMAT).replace(b"%07d", rb"(\d{7})"))
SAMPLE_SECONDS = 0.1
RESULTS_QUERY = "SELECT count(*), count(DISTINCT image_id) FROM results"
IMAGES_QUERY = "SELECT count(*), count(DISTINCT name), count(DISTINCT sha256), count(DISTINCT job_id) FROM images"


class CountingProxy(tcp_proxy.Proxy):
    """A proxy that counts numbered comments, and holds the data while it runs the trigger of a count."""

    def __init__(self, target_port: int) -> None:
        self.sent: Counter[bytes] = Counter()
        self.triggers: list[tuple[int, Callable[[], object]]] = []
        self._tails: dict[socket.socket, bytes] = {}
        self._count_lock = threading.Lock()
        super().__init__(target_port)

    def on_client_data(self, sock: socket.socket, data: bytes) -> None:
        """Count the comments in `data`, also those split across chunks."""
        buffer = self._tails.get(sock, b"") + data
        matches = list(STAMP_PATTERN.finditer(buffer))
        consumed = matches[-1].end() if matches else 0
        with self._count_lock:
            self._tails[sock] = buffer[max(consumed, len(buffer) - len(COMMENT_FORMAT % 0)) :]
            self.sent.update(match[1] for match in matches)
            while self.triggers and len(self.sent) >= self.triggers[0][0]:
                self.triggers.pop(0)[1]()


@dataclass
class EnqueueRun:
    """One run of the command: its resident bytes by images sent since its start, and how it ended."""

    rss_by_sent: dict[int, int] = field(default_factory=dict)
    exit_code: int = 0
    summary: Mapping[str, Any] = field(default_factory=dict)

    def lines(self, warmup: int) -> Iterator[str]:
        """Yield the report line on its memory."""
        later = {sent: size for sent, size in self.rss_by_sent.items() if sent >= warmup}
        if later:
            first, last = later[min(later)], later[max(later)]
            yield (
                f"enqueue, exit code {self.exit_code}: {first / 1e6:.1f} MB after {min(later):,} images, "
                f"{last / 1e6:.1f} MB at its end after {max(later):,}, {max(later.values()) / 1e6:.1f} MB at most"
            )


@dataclass(frozen=True)
class CrashTestResult:
    """Findings after the last run."""

    count: int
    runs: list[EnqueueRun]
    killed_at: Mapping[str, int]
    """Images sent when each process was killed, by role."""
    sent: Counter[bytes]
    result_counts: Counter[str]
    """Number of results the server returns for each image."""
    label_count: int
    row_counts: tuple[int, ...]
    """Counts in the database: results, images with a result; images, names, digests, jobs."""
    broken_invariants: list[str]
    """Violated invariants."""
    seconds: float

    @property
    def resent_count(self) -> int:
        """Number of images whose bytes were sent more than once."""
        return sum(times > 1 for times in self.sent.values())

    def failures(self) -> Iterator[str]:
        """Yield a message for each deviation from exactly-once."""
        count = self.count
        if self.killed_at.keys() != KILL_AT_SHARE.keys():
            yield f"only these were killed: {', '.join(self.killed_at)}"
        if len(self.result_counts) != count or set(self.result_counts.values()) != {1} or self.label_count != count:
            reported = f"{self.result_counts.total():,} results of {len(self.result_counts):,} images"
            yield f"the server returns {reported}, {self.label_count:,} of them with a label"
        if self.row_counts != (count, count, count, count, count, 1):
            yield f"the database has (results, their images; images, names, digests, jobs) {self.row_counts}"
        if len(self.sent) != count or self.resent_count > MAX_RESENT:
            yield f"{len(self.sent):,} images were sent, {self.resent_count:,} of them more than once"
        yield from self.broken_invariants

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        yield f"{self.count:,} images, {self.seconds:.0f} s; killed: " + ", ".join(
            f"{role} after {sent:,} were sent" for role, sent in self.killed_at.items()
        )
        for run in self.runs:
            yield from run.lines(min(WARMUP_IMAGES, self.count // 10))
        results, rows = self.result_counts.total(), self.row_counts
        yield f"results: {results:,} by the server, {rows[0]:,} in the database, in {rows[-1]} job"
        yield f"uploads: {len(self.sent):,} images, {self.resent_count:,} of them more than once (limit {MAX_RESENT:,})"
        yield from (f"WRONG: {failure}" for failure in self.failures())


def draw_images(folder: Path, count: int) -> None:
    """Draw small JPEGs, each unique and with its number as a comment; 20 % in folders of 3,000, the rest in one."""
    for number in range(count):
        path = folder / (f"{number // 3000}" if number < count // 5 else "big") / f"{number:07}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, number // 65536))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90, comment=COMMENT_FORMAT % number)
        path.write_bytes(buffer.getvalue())


def measure(count: int, image_dir: Path, **settings: Any) -> CrashTestResult:
    """Draw images, enqueue them under kills until the command ends, and check the outcome."""
    draw_images(image_dir, count)
    with stack.up(model=MODEL, **settings) as server, tempfile.TemporaryDirectory() as state:
        counting_proxy = CountingProxy(parse.urlsplit(server.url).port or 0)
        environment = {**server.environment, "XDG_STATE_HOME": state}
        environment["SORTBELT_URL"] = f"http://127.0.0.1:{counting_proxy.port}"
        runs, killed_at = [EnqueueRun()], dict[str, int]()
        command = [sys.executable, "-m", "sortbelt", "enqueue", str(image_dir), "--json"]
        started = time.monotonic()
        while True:
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                if len(runs) == 1:
                    counting_proxy.triggers = list(_kill_triggers(count, server, process, counting_proxy, killed_at))
                _sample_memory(process, counting_proxy, runs[-1])
            if runs[-1].exit_code >= 0:
                break
            runs.append(EnqueueRun())
        seconds = time.monotonic() - started
        counting_proxy.close()
        result_counts, label_count = (
            _fetch_result_counts(server, str(runs[-1].summary["job_id"])) if runs[-1].summary else (Counter[str](), 0)
        )
        return CrashTestResult(
            count, runs, killed_at, counting_proxy.sent, result_counts, label_count, *_check_database(server), seconds
        )


def _kill_triggers(
    count: int,
    server: stack.Stack,
    enqueuer: "subprocess.Popen[bytes]",
    counting_proxy: CountingProxy,
    killed_at: dict[str, int],
) -> Iterator[tuple[int, Callable[[], object]]]:
    """Yield (images sent, function that kills a role)."""

    def kill(role: str) -> None:
        killed_at[role] = len(counting_proxy.sent)
        root_processes = [psutil.Process(enqueuer.pid)] if role == "enqueuer" else list(_children_of_role(server, role))
        for process in [child for main in root_processes for child in (*main.children(recursive=True), main)]:
            process.kill()

    for role, share in KILL_AT_SHARE.items():
        yield int(share * count), functools.partial(kill, role)


def _children_of_role(server: stack.Stack, role: str) -> Iterator[psutil.Process]:
    for child in psutil.Process(server.root_pids[0]).children():
        if process_usage.role_of(" ".join(child.cmdline()), "") == role:
            yield child


def _sample_memory(process: "subprocess.Popen[bytes]", counting_proxy: CountingProxy, run: EnqueueRun) -> None:
    """Sample the process's memory until it ends, then record its exit code and summary."""
    sent_before, client_process = len(counting_proxy.sent), psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            if rss := client_process.memory_info().rss:  # 0 for a zombie
                run.rss_by_sent[len(counting_proxy.sent) - sent_before] = rss
        time.sleep(SAMPLE_SECONDS)
    assert process.stdout is not None  # noqa: S101 (for the type checker)
    stdout = process.stdout.read()
    run.exit_code = process.wait()
    run.summary = json.loads(stdout.splitlines()[-1]) if run.exit_code == 0 else {}


def _fetch_result_counts(server: stack.Stack, job_id: str) -> tuple[Counter[str], int]:
    """Return the number of results per image name on the server, and the number of labels."""
    with Client(server.url, server.key) as client:
        results = list(client.results(job_id))
    return Counter(result.image for result in results), sum(result.label is not None for result in results)


def _check_database(server: stack.Stack) -> tuple[tuple[int, ...], list[str]]:
    """Return the row counts of the database, and its violated invariants."""
    db = database.Database(f"sqlite:///{server.data_dir}/sortbelt.db")
    try:
        rows = tuple(number for query in (RESULTS_QUERY, IMAGES_QUERY) for number in db.read(_query_row, query))
        broken = [f"{count} {name}" for name, count in db.read(invariants.find_defects).items()]
    finally:
        db.close()
    return rows, broken


def _query_row(conn: sa.Connection, query: str) -> tuple[int, ...]:
    return tuple(conn.execute(sa.text(query)).one())


def main(args: argparse.Namespace) -> int:
    """Measure and print; return 1 after a failure."""
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        outcome = measure(args.count, args.folder or Path(work_dir))
    report.save(outcome.lines(), args.out / "crash_recovery.txt")
    return 1 if any(outcome.failures()) else 0


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash_recovery", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of images")
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder for the drawn images; existing ones are reused [default: a temporary folder]",
    )
    parser.add_argument("--out", type=Path, default=report.OUT, help="folder for the report")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
