"""Watchers: what two hundred who poll and fifty who follow the events of a job cost those who classify.

`python -m bench.watchers`: folders through one stack, by turns with and without watchers, who all watch the folder's
job. Who polls comes again after what `Retry-After` says, as a good client does, or every `--every` seconds. They are
coroutines of one process on the same cores, and what CPU they take themselves is told: it is paid by the same folder.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib import parse

from bench import bulk, pictures, report, stack
from bench.figures import Figure

GOAL = 0.85  # of the rate without watchers
GROUP = "watched"
START_SECONDS = 60
OUT = Path(__file__).parent / "out"


class Watchers:
    """Those who watch one job: so many who poll, and so many who follow its events."""

    def __init__(self, server: stack.Stack, job_id: str, every: float | None) -> None:
        where = parse.urlsplit(server.url)
        self._address = (where.hostname or "", where.port or 80)
        self._every = every
        self._path = f"/v1/jobs/{job_id}"
        self._key = server.key
        self.seen: Counter[str] = Counter()
        """Answers to polls, and events."""

    async def watch(self, pollers: int, streams: int) -> None:
        """Watch until the job has ended for everybody.

        Raises:
            RuntimeError: a request was refused.
        """
        async with asyncio.TaskGroup() as group:
            for who, count in ((self._poll, pollers), (self._follow, streams)):
                for number in range(count):
                    group.create_task(self._later(number / count, who))

    async def _later(self, seconds: float, who: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(seconds)  # not all in the same moment
        await who()

    async def _poll(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        while True:
            head = await self._ask(reader, writer, self._path)
            job = json.loads(await reader.readexactly(int(head["content-length"])))
            self.seen["polls"] += 1
            if job["finished_at"]:
                break
            await asyncio.sleep(self._every or float(head["retry-after"]))
        writer.close()

    async def _follow(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        await self._ask(reader, writer, f"{self._path}/events")
        async for line in _lines(reader):
            if line.startswith(b"event: "):
                self.seen["events"] += 1
            if line == b"event: done\n":
                break
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> dict[str, str]:
        asked = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n\r\n"
        writer.write(asked.encode())
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        if " 200 " not in f"{first} ":
            raise RuntimeError(f"{path} was answered {first!r}.")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := await reader.readline():
        yield line


async def watched(
    server: stack.Stack, folder: Path, pollers: int, streams: int, every: float | None
) -> tuple[bulk.Bulk, Watchers, float]:
    """A folder while its job is watched; who watched, and what seconds of CPU that took them."""
    before = _newest(server)
    going = asyncio.create_task(asyncio.to_thread(bulk.enqueue, server, folder))
    watchers = Watchers(server, await asyncio.to_thread(_next, server, before), every)
    cpu = time.process_time()
    await watchers.watch(pollers, streams)
    cpu = time.process_time() - cpu
    return await going, watchers, cpu


def _newest(server: stack.Stack) -> str:
    with server.client() as client:
        jobs = client.get("/v1/jobs", params={"limit": 1}).raise_for_status().json()["jobs"]
    return str(jobs[0]["id"]) if jobs else ""


def _next(server: stack.Stack, before: str) -> str:
    until = time.monotonic() + START_SECONDS
    while (job_id := _newest(server)) == before:
        if time.monotonic() > until:
            raise TimeoutError(f"`sortbelt enqueue` has made no job within {START_SECONDS} s.")
        time.sleep(0.02)
    return job_id


def measure(asked: argparse.Namespace) -> dict[str, Figure]:
    """Images a second with and without watchers, by turns, and what the watchers saw and took."""
    figures: dict[str, Figure] = {}

    def add(name: str, unit: str, value: float) -> None:
        figures.setdefault(name, Figure(GROUP, name, unit)).values.append(value)

    with stack.up() as server, tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        drawn = pictures.folder(asked.out / "pictures", asked.drawn)
        bulk.enqueue(server, bulk.fresh(drawn, Path(work) / "now", asked.drawn, "warm"))
        for number in range(asked.runs):
            folder = bulk.fresh(drawn, Path(work) / "now", asked.count, f"a{number}")
            add("alone", "images/s", bulk.enqueue(server, folder).run.rate)
            folder = bulk.fresh(drawn, Path(work) / "now", asked.count, f"w{number}")
            done, watchers, cpu = asyncio.run(watched(server, folder, asked.pollers, asked.streams, asked.every))
            add("watched", "images/s", done.run.rate)
            for what in ("polls", "events"):
                add(what, "/s", watchers.seen[what] / done.run.seconds)
            add("the watchers' own CPU", "% of a core", 100 * cpu / done.run.seconds)
    figures["share"] = figures["watched"].over(figures["alone"])
    return figures


def main(asked: argparse.Namespace) -> int:
    """Measure, and tell."""
    figures = measure(asked)
    rows = [
        (figure.name, f"{figure.median:.2f}", "({:.2f} to {:.2f})".format(*figure.spread), figure.unit)
        for figure in figures.values()
    ]
    share = figures["share"].median
    verdict = "reached" if share >= GOAL else "not reached"
    text = [*report.columns(rows), f"{asked.pollers} polling, {asked.streams} streams: {share:.0%} of the rate is left"]
    text[-1] += f" (≥ {GOAL:.0%}: {verdict})"
    report.keep(text, asked.out / "watchers.txt")
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.watchers", description=__doc__)
    parser.add_argument("--pollers", type=int, default=200, help="who poll (200)")
    parser.add_argument("--streams", type=int, default=50, help="who follow the events (50)")
    parser.add_argument("--every", type=float, help="seconds between two polls, instead of what the server says")
    parser.add_argument("--count", type=int, default=2000, help="pictures of a folder (2000)")
    parser.add_argument("--drawn", type=int, default=200, help="pictures to draw (200)")
    parser.add_argument("--runs", type=int, default=3, help="folders of each kind (3)")
    parser.add_argument("--out", type=Path, default=OUT, help="where pictures and table go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
