"""Shared parts of all loops over files: processes that are ready before the clock starts, and run results."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

MODEL = os.environ.get("BENCH_MODEL", "cookpad-cnn")  # the published network, which others can compare with
BUNDLE = Path(__file__).parent.parent / "model" / "bundles" / MODEL
CORES = len(os.sched_getaffinity(0))
T = TypeVar("T")


@dataclass(frozen=True)
class RunResult:
    """One pass over a folder."""

    labels: list[str]
    """One per image, in order; empty where an image cannot be decoded."""
    seconds: float
    cpu_seconds: float
    """Of all processes of the run."""

    @property
    def rate(self) -> float:
        """Images per second."""
        return len(self.labels) / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per image."""
        return self.cpu_seconds / len(self.labels) * 1e6


def chunks(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """Split the files into groups of `size`."""
    return [paths[start : start + size] for start in range(0, len(paths), size)]


class TimedPool:
    """A process pool that is ready when constructed, and measures the CPU time of each call."""

    def __init__(self, count: int, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        ready = context.Semaphore(0)
        self._pool = context.Pool(count, _initialize, (ready, initializer, initargs))
        for _ in range(count):
            ready.acquire()

    def map(self, function: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[Any, float]]:
        """Yield the result of each call and its seconds of CPU, in order."""
        return self._pool.imap(_Timed(function), items)

    def classify(self, function: Callable[[Sequence[Path]], list[str]], paths: Sequence[Path], batch: int) -> RunResult:
        """Run a function that returns labels over batches of files."""
        started = time.perf_counter()
        results = list(self.map(function, chunks(paths, batch)))
        seconds = time.perf_counter() - started
        return RunResult([label for labels, _ in results for label in labels], seconds, sum(cpu for _, cpu in results))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()


def _initialize(ready: Any, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    initializer(*initargs)
    ready.release()


@dataclass(frozen=True)
class _Timed:
    function: Callable[[Any], Any]

    def __call__(self, item: Any) -> tuple[Any, float]:
        started = time.process_time()
        return self.function(item), time.process_time() - started
