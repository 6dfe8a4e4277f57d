"""A folder through a real stack while everything is killed: `python -m bench.killed --count 100000`.

Tiny pictures, each with a stamp, go by `sortbelt enqueue` to a `sortbelt up`. A proxy between them counts the stamps
that pass, and in the middle of the sending SIGKILL hits the enqueuer, the API and the worker, each once; the command is
run again until it has ended. Then server, database and stamps are asked whether each picture was done exactly once.
"""

import argparse
import contextlib
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

from bench import folder, processes, report, stack
from jobs import database
from jobs.store import invariants
from sortbelt import enqueue, pictures
from tests.faults import proxy

MODEL = "cookpad-cnn"  # the quicker one: this is not about the network
WARM = 1_000  # pictures, after which memory must be what it is
SHARES = {"enqueuer": 0.25, "api": 0.5, "worker": 0.75}  # of the pictures sent, when SIGKILL comes
IN_FLIGHT = 2 * enqueue.UPLOADS * pictures.MOST_PICTURES  # may be cut off when the enqueuer dies, and when the API does
STAMPS = re.compile(re.escape(folder.STAMP).replace(b"%07d", rb"(\d{7})"))
SAMPLE_SECONDS = 0.1
OUT = Path(__file__).parent / "out"
RESULTS = "SELECT count(*), count(DISTINCT image_id) FROM results"
LOOKS = (
    invariants.ended_without_result,
    invariants.results_of_open_images,
    invariants.miscounted_jobs,
    invariants.unfinished_complete_jobs,
)
IMAGES = "SELECT count(*), count(DISTINCT name), count(DISTINCT sha256), count(DISTINCT job_id) FROM images"


class Counting(proxy.Proxy):
    """A proxy that counts the stamps which pass, and acts when there were so many; meanwhile nothing passes."""

    def __init__(self, target: int) -> None:
        self.sent: Counter[bytes] = Counter()
        self.acts: list[tuple[int, Callable[[], object]]] = []
        self._tails: dict[socket.socket, bytes] = {}
        self._one = threading.Lock()
        super().__init__(target)

    def overhear(self, line: socket.socket, piece: bytes) -> None:
        """Count what is in it, also across pieces."""
        heard = self._tails.get(line, b"") + piece
        found = list(STAMPS.finditer(heard))
        done = found[-1].end() if found else 0
        with self._one:
            self._tails[line] = heard[max(done, len(heard) - len(folder.STAMP % 0)) :]
            self.sent.update(match[1] for match in found)
            while self.acts and len(self.sent) >= self.acts[0][0]:
                self.acts.pop(0)[1]()


@dataclass
class Enqueuer:
    """One run of the command: its resident bytes by how many pictures were sent since it began, and how it ended."""

    memory: dict[int, int] = field(default_factory=dict)
    code: int = 0
    said: Mapping[str, Any] = field(default_factory=dict)

    def lines(self, warm: int) -> Iterator[str]:
        """What it held."""
        later = {sent: size for sent, size in self.memory.items() if sent >= warm}
        if later:
            first, last = later[min(later)], later[max(later)]
            yield (
                f"enqueue, exit code {self.code}: {first / 1e6:.1f} MB after {min(later):,} pictures, "
                f"{last / 1e6:.1f} MB at its end after {max(later):,}, {max(later.values()) / 1e6:.1f} MB at most"
            )


@dataclass(frozen=True)
class Outcome:
    """What is there when all is over."""

    count: int
    runs: list[Enqueuer]
    killed: Mapping[str, int]
    """How many pictures had been sent when each was killed."""
    sent: Counter[bytes]
    names: Counter[str]
    """How many results the server tells for each picture."""
    labels: int
    rows: tuple[int, ...]
    """Results, images with one; images, names, digests, jobs: by the database."""
    broken: list[str]
    """Invariants that do not hold."""
    seconds: float

    @property
    def twice(self) -> int:
        """How many pictures' bytes were sent more than once."""
        return sum(times > 1 for times in self.sent.values())

    def faults(self) -> Iterator[str]:
        """What is not as it should be."""
        count = self.count
        if self.killed.keys() != SHARES.keys():
            yield f"killed were only {', '.join(self.killed)}"
        if len(self.names) != count or set(self.names.values()) != {1} or self.labels != count:
            told = f"{self.names.total():,} results of {len(self.names):,} pictures"
            yield f"the server tells {told}, {self.labels:,} of them with a label"
        if self.rows != (count, count, count, count, count, 1):
            yield f"the database has (results, their images; images, names, digests, jobs) {self.rows}"
        if len(self.sent) != count or self.twice > IN_FLIGHT:
            yield f"{len(self.sent):,} pictures were sent, {self.twice:,} of them more than once"
        yield from self.broken

    def lines(self) -> Iterator[str]:
        """The report."""
        yield f"{self.count:,} pictures, {self.seconds:.0f} s; killed: " + ", ".join(
            f"{who} after {sent:,} were sent" for who, sent in self.killed.items()
        )
        for run in self.runs:
            yield from run.lines(min(WARM, self.count // 10))
        yield f"results: {self.names.total():,} by the server, {self.rows[0]:,} by the database, in {self.rows[-1]} job"
        yield f"bytes sent: of {len(self.sent):,} pictures, of {self.twice:,} more than once ({IN_FLIGHT:,} may be)"
        yield from (f"WRONG: {fault}" for fault in self.faults())


def measure(count: int, where: Path, **settings: Any) -> Outcome:
    """Draw, send, kill, go on, count."""
    folder.draw(where, count)
    with stack.up(model=MODEL, **settings) as server, tempfile.TemporaryDirectory() as state:
        between = Counting(parse.urlsplit(server.url).port or 0)
        environment = {**server.environment, "XDG_STATE_HOME": state}
        environment["SORTBELT_URL"] = f"http://127.0.0.1:{between.port}"
        runs, killed = [Enqueuer()], {}
        command = [sys.executable, "-m", "sortbelt", "enqueue", str(where), "--json"]
        started = time.monotonic()
        while True:
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                if len(runs) == 1:
                    between.acts = list(_kills(count, server, process, between, killed))
                _watch(process, between, runs[-1])
            if runs[-1].code >= 0:
                break
            runs.append(Enqueuer())
        seconds = time.monotonic() - started
        between.close()
        names, labels = _told(server, str(runs[-1].said["job_id"])) if runs[-1].said else (Counter[str](), 0)
        return Outcome(count, runs, killed, between.sent, names, labels, *_looked(server), seconds)


def _kills(
    count: int, server: stack.Stack, enqueuer: "subprocess.Popen[bytes]", between: Counting, killed: dict[str, int]
) -> Iterator[tuple[int, Callable[[], object]]]:
    """When to kill whom."""

    def kill(who: str) -> None:
        killed[who] = len(between.sent)
        mains = [psutil.Process(enqueuer.pid)] if who == "enqueuer" else list(_children(server, who))
        for process in [child for main in mains for child in (*main.children(recursive=True), main)]:
            process.kill()

    for who, share in SHARES.items():
        yield int(share * count), lambda who=who: kill(who)


def _children(server: stack.Stack, role: str) -> Iterator[psutil.Process]:
    for child in psutil.Process(server.roots[0]).children():
        if processes.role_of(" ".join(child.cmdline()), "") == role:
            yield child


def _watch(process: "subprocess.Popen[bytes]", between: Counting, run: Enqueuer) -> None:
    """Look at its memory until it has ended."""
    before, watched = len(between.sent), psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            if held := watched.memory_info().rss:  # none once it is a zombie
                run.memory[len(between.sent) - before] = held
        time.sleep(SAMPLE_SECONDS)
    assert process.stdout is not None  # noqa: S101 (for the type checker)
    out = process.stdout.read()
    run.code = process.wait()
    run.said = json.loads(out.splitlines()[-1]) if run.code == 0 else {}


def _told(server: stack.Stack, job_id: str) -> tuple[Counter[str], int]:
    """How many results the server tells for each picture, and how many labels."""
    names: Counter[str] = Counter()
    labels, url = 0, f"/v1/jobs/{job_id}/results?limit=1000"
    with server.client() as client:
        while url:
            page = client.get(url).raise_for_status()
            results = page.json()["results"]
            names.update(result["image"] for result in results)
            labels += sum(result["label"] is not None for result in results)
            url = page.links.get("next", {}).get("url", "")
    return names, labels


def _looked(server: stack.Stack) -> tuple[tuple[int, ...], list[str]]:
    """What the database says: how many rows there are, and which invariants do not hold."""
    db = database.Database(f"sqlite:///{server.data_dir}/sortbelt.db")
    try:
        rows = tuple(number for query in (RESULTS, IMAGES) for number in db.read(_numbers, query))
        broken = [f"{db.read(look)} {look.__name__}".replace("_", " ") for look in LOOKS if db.read(look)]
    finally:
        db.close()
    return rows, broken


def _numbers(c: sa.Connection, query: str) -> tuple[int, ...]:
    return tuple(c.execute(sa.text(query)).one())


def main(asked: argparse.Namespace) -> int:
    """Measure, and tell."""
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        outcome = measure(asked.count, asked.folder or Path(work))
    report.keep(outcome.lines(), asked.out / "killed.txt")
    return 1 if any(outcome.faults()) else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.killed", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="of pictures")
    parser.add_argument("--folder", type=Path, help="where they are drawn, or lie already [default: drawn anew]")
    parser.add_argument("--out", type=Path, default=OUT, help="where the report goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
