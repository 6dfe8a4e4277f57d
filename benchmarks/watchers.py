"""Watchers: throughput while 200 clients poll a job and 50 follow its events.

`python -m benchmarks.watchers`: enqueue folders on one stack, in turn with and without watchers of the folder's job.
Pollers wait for `Retry-After`, as a good client does, or `--every` seconds. Watchers are coroutines of one process on
the same cores; their own CPU is reported, since it slows the same folder down.
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

from benchmarks import bulk, report, sample_images, stack
from benchmarks.figures import Figure

MIN_RATE_SHARE = 0.85  # of the rate without watchers
GROUP = "watched"
START_TIMEOUT_SECONDS = 60


class JobWatchers:
    """Clients that watch one job, by polling or by its event stream."""

    def __init__(self, server: stack.Stack, job_id: str, poll_interval: float | None) -> None:
        url = parse.urlsplit(server.url)
        self._address = (url.hostname or "", url.port or 80)
        self._poll_interval = poll_interval
        self._path = f"/v1/jobs/{job_id}"
        self._key = server.key
        self.counts: Counter[str] = Counter()
        """Number of poll responses and of events."""

    async def watch(self, pollers: int, streams: int) -> None:
        """Watch until every watcher has seen the job end.

        Raises:
            RuntimeError: a response was not a 200.
        """
        async with asyncio.TaskGroup() as group:
            for watcher, count in ((self._poll, pollers), (self._follow_events, streams)):
                for number in range(count):
                    group.create_task(self._start_delayed(number / count, watcher))

    async def _start_delayed(self, seconds: float, watcher: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(seconds)  # spread the first requests over a second
        await watcher()

    async def _poll(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        while True:
            head = await self._get(reader, writer, self._path)
            job = json.loads(await reader.readexactly(int(head["content-length"])))
            self.counts["polls"] += 1
            if job["finished_at"]:
                break
            await asyncio.sleep(self._poll_interval or float(head["retry-after"]))
        writer.close()

    async def _follow_events(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        await self._get(reader, writer, f"{self._path}/events")
        async for line in _read_lines(reader):
            if line.startswith(b"event: "):
                self.counts["events"] += 1
            if line == b"event: done\n":
                break
        writer.close()

    async def _get(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> dict[str, str]:
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n\r\n"
        writer.write(request.encode())
        status_line, *header_lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        if " 200 " not in f"{status_line} ":
            raise RuntimeError(f"{path} responded with {status_line!r}.")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in header_lines)}


async def _read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := await reader.readline():
        yield line


async def enqueue_watched(
    server: stack.Stack, folder: Path, pollers: int, streams: int, poll_interval: float | None
) -> tuple[bulk.BulkResult, JobWatchers, float]:
    """Enqueue a folder while its job is watched; return the result, the watchers and their seconds of CPU."""
    previous_job_id = _newest_job_id(server)
    enqueue_task = asyncio.create_task(asyncio.to_thread(bulk.enqueue, server, folder))
    watchers = JobWatchers(server, await asyncio.to_thread(_wait_for_new_job, server, previous_job_id), poll_interval)
    cpu_seconds = time.process_time()
    await watchers.watch(pollers, streams)
    cpu_seconds = time.process_time() - cpu_seconds
    return await enqueue_task, watchers, cpu_seconds


def _newest_job_id(server: stack.Stack) -> str:
    with server.client() as client:
        jobs = client.get("/v1/jobs", params={"limit": 1}).raise_for_status().json()["jobs"]
    return str(jobs[0]["id"]) if jobs else ""


def _wait_for_new_job(server: stack.Stack, previous_job_id: str) -> str:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while (job_id := _newest_job_id(server)) == previous_job_id:
        if time.monotonic() > deadline:
            raise TimeoutError(f"`sortbelt enqueue` created no job within {START_TIMEOUT_SECONDS} s.")
        time.sleep(0.02)
    return job_id


def measure(args: argparse.Namespace) -> dict[str, Figure]:
    """Measure images per second with and without watchers, in turn, and the watchers' polls, events and CPU."""
    figures: dict[str, Figure] = {}

    def add(name: str, unit: str, value: float) -> None:
        figures.setdefault(name, Figure(GROUP, name, unit)).values.append(value)

    with stack.up() as server, tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        image_paths = sample_images.draw_folder(args.out / "images", args.drawn)
        bulk.enqueue(server, bulk.make_fresh_folder(image_paths, Path(work_dir) / "now", args.drawn, "warm"))
        for number in range(args.runs):
            folder = bulk.make_fresh_folder(image_paths, Path(work_dir) / "now", args.count, f"a{number}")
            add("alone", "images/s", bulk.enqueue(server, folder).run.rate)
            folder = bulk.make_fresh_folder(image_paths, Path(work_dir) / "now", args.count, f"w{number}")
            result, watchers, cpu_seconds = asyncio.run(
                enqueue_watched(server, folder, args.pollers, args.streams, args.every)
            )
            add("watched", "images/s", result.run.rate)
            for kind in ("polls", "events"):
                add(kind, "/s", watchers.counts[kind] / result.run.seconds)
            add("the watchers' own CPU", "% of a core", 100 * cpu_seconds / result.run.seconds)
    figures["share"] = figures["watched"].ratio_to(figures["alone"])
    return figures


def main(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    figures = measure(args)
    rows = [
        (figure.name, f"{figure.median:.2f}", "({:.2f} to {:.2f})".format(*figure.spread), figure.unit)
        for figure in figures.values()
    ]
    share = figures["share"].median
    verdict = "reached" if share >= MIN_RATE_SHARE else "missed"
    text = [
        *report.format_columns(rows),
        f"{args.pollers} polling, {args.streams} streams: {share:.0%} of the rate without watchers",
    ]
    text[-1] += f" (≥ {MIN_RATE_SHARE:.0%}: {verdict})"
    report.save(text, args.out / "watchers.txt")
    return 0


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watchers", description=__doc__)
    parser.add_argument("--pollers", type=int, default=200, help="clients that poll (200)")
    parser.add_argument("--streams", type=int, default=50, help="clients that follow the events (50)")
    parser.add_argument("--every", type=float, help="seconds between polls, instead of Retry-After")
    parser.add_argument("--count", type=int, default=2000, help="images per folder (2000)")
    parser.add_argument("--drawn", type=int, default=200, help="images to draw (200)")
    parser.add_argument("--runs", type=int, default=3, help="folders with and without watchers (3)")
    parser.add_argument("--out", type=Path, default=report.OUT, help="folder for images and table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
