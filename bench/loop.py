"""What every loop over files shares: processes that are up before the clock starts, and what came of a run."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

MODEL = os.environ.get("BENCH_MODEL", "cookpad-cnn")  # the published network, as those who compare have it
BUNDLE = Path(__file__).parent.parent / "model" / "bundles" / MODEL
CORES = len(os.sched_getaffinity(0))
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One pass over a folder."""

    labels: list[str]
    """One for each picture, in order; empty where it cannot be decoded."""
    seconds: float
    cpu_seconds: float
    """Of all its processes."""

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.labels) / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU for each picture."""
        return self.cpu_seconds / len(self.labels) * 1e6


def chunks(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """The files in groups."""
    return [paths[start : start + size] for start in range(0, len(paths), size)]


class Pool:
    """Processes that are ready when the pool is; they tell with each answer what CPU it took them."""

    def __init__(self, count: int, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        up = context.Semaphore(0)
        self._pool = context.Pool(count, _start, (up, start, arguments))
        for _ in range(count):
            up.acquire()

    def map(self, work: Callable[[T], Any], orders: Iterable[T]) -> Iterator[tuple[Any, float]]:
        """The answer to each order, and its seconds of CPU; in order."""
        return self._pool.imap(_Timed(work), orders)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()


def _start(up: Any, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    start(*arguments)
    up.release()


@dataclass(frozen=True)
class _Timed:
    work: Callable[[Any], Any]

    def __call__(self, order: Any) -> tuple[Any, float]:
        started = time.process_time()
        return self.work(order), time.process_time() - started
