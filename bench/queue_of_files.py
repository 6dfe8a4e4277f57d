"""A queue of files: whole workers work off a SQLite database that has been filled for them; no API, no Redis."""

import hashlib
import multiprocessing
import queue
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs import blobs, database, settings, tables
from jobs.store import incoming, invariants, jobs, keys
from migrations.__main__ import upgrade
from worker import station

TOGETHER = 1000  # images of one job
STILL_SECONDS = 60.0
START_SECONDS = 120.0


class Files:
    """Files that have been put among the blobs, once for however many queues."""

    def __init__(self, files: Sequence[Path], work: Path) -> None:
        self.blobs = f"{work}/blobs"
        store = blobs.open_blobs(self.blobs)
        self.images: list[incoming.NewImage] = []
        for start in range(0, len(files), TOGETHER):
            some = [(path.name, path.read_bytes()) for path in files[start : start + TOGETHER]]
            digests = [hashlib.sha256(data).hexdigest() for _, data in some]
            store.put([(sha256, data) for sha256, (_, data) in zip(digests, some, strict=True)])
            for sha256, (name, data) in zip(digests, some, strict=True):
                self.images.append(incoming.NewImage(name, sha256, len(data)))

    def fill(self, db: database.Database, model: str) -> None:
        """Queue all of them."""
        owner = db.write(keys.create, "bench", tables.Role.SUBMIT, keys.make()).id
        for start in range(0, len(self.images), TOGETHER):
            db.write(jobs.create, jobs.NewJob(owner, model), self.images[start : start + TOGETHER])


def drain(files: Files, *, bundle: Path, workers: int = 1, **more: Any) -> float:
    """Images a second of so many workers, each with the settings in `more`: from the first claim to the last commit.

    Raises:
        TimeoutError: they stand still, or do not come up.
    """
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        given = {"database_url": f"sqlite:///{work}/queue.db", "blobs": files.blobs, "idle_ring_seconds": "3600"}
        given |= {"model": bundle.name, "bundles": str(bundle.parent)} | {
            name: str(value) for name, value in more.items()
        }
        db = database.Database(given["database_url"])
        db.write(upgrade)
        files.fill(db, bundle.name)
        db.close()
        began, ended = _apart(given, workers, [image.sha256 for image in files.images[:1024]])
    return len(files.images) / (ended - began)


def _apart(given: Mapping[str, str], workers: int, some: Sequence[str]) -> tuple[float, float]:
    """Let workers of their own processes work it off: when they began and ended, by the clock of the machine."""
    context = multiprocessing.get_context("spawn")
    ready, go, done = context.Queue(), context.Event(), context.Queue()
    children = [context.Process(target=_work, args=(given, some, ready, go, done)) for _ in range(workers)]
    for child in children:
        child.start()
    try:
        for _ in children:
            ready.get(timeout=START_SECONDS)
        began = time.monotonic()
        go.set()
        return began, max(done.get(timeout=600) for _ in children)
    except queue.Empty:
        raise TimeoutError("A worker does not come up, or does not go on; its own words are above.") from None
    finally:
        for child in children:
            child.join(30)
            child.kill()


def _work(given: Mapping[str, str], some: Sequence[str], ready: Any, go: Any, done: Any) -> None:
    wanted = settings.read({f"SORTBELT_{name.upper()}": value for name, value in given.items()})
    one = station.Station(wanted)
    try:
        _warm(one, some)
        ready.put(one.id)
        go.wait()
        progress, left = time.monotonic(), -1
        while left:
            one.drain.run()
            now = one.db.read(invariants.open_images)
            progress, left = (time.monotonic() if now != left else progress), now
            if time.monotonic() - progress > STILL_SECONDS:
                raise TimeoutError(f"{left} pictures are left, and nothing goes on.")
        done.put(time.monotonic())
    finally:
        one.close()


def _warm(one: station.Station, some: Sequence[str]) -> None:
    """Let every decoder come up, and the network meet its batch, in as many places as are in flight."""
    how, judge = one.shelf.own.how, one.shelf.own.judge
    one.decoders.decode(some)
    size = one.settings.batch_size
    for count in [size] if size != "auto" else [2**power for power in range(11)]:
        for _ in range(2):
            judge.network.classify(np.zeros((count, how.height, how.width, 3), np.uint8))
