"""From decoded pictures to fates: one forward pass, and each picture judged by itself."""

import functools
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jobs import errors
from jobs.store import work
from model import classifier
from worker import decoders

log = logging.getLogger(__name__)
MOST_ON_CPU = 16  # more is no faster, and takes more memory (bench/README.md)
CORES = len(os.sched_getaffinity(0))
LEAST_ON_CPU = 4  # so few are not worth another core
DIGITS = 6  # beyond them a score depends on the size of the batch


@functools.cache
def _cores() -> futures.ThreadPoolExecutor:
    """Threads that classify on a CPU, one a core, each with whole pieces of a batch.

    torch's own threads share each layer and wait for each other at its end, spinning: beside busy decoders a picture
    took 20 ms of CPU instead of 4 (bench/README.md).
    """
    return futures.ThreadPoolExecutor(CORES, "forward", lambda: torch.set_num_threads(1))


class Judge:
    """A classifier that survives its own lack of memory: it halves the batch and remembers."""

    def __init__(self, network: classifier.Classifier) -> None:
        self.network = network
        self.labels = network.bundle.labels
        self._on_cpu = network.device.type == "cpu"
        self.most = MOST_ON_CPU if self._on_cpu else sys.maxsize
        """How many pictures go through the network at once; less when the device's memory has turned out too small."""

    @property
    def room(self) -> int:
        """How many pictures a batch may have that the device is to take at once; a CPU gets it in pieces."""
        return sys.maxsize if self._on_cpu else self.most

    def fates(
        self,
        claims: Sequence[work.Claim],
        pixels: npt.NDArray[np.uint8],
        outcomes: Sequence[decoders.Outcome],
    ) -> list[work.Fate]:
        """The fate of each claim, in order; `pixels` is uint8 [N, height, width, 3]."""
        good = [row for row, outcome in enumerate(outcomes) if outcome.error is None]
        started = time.perf_counter()
        scores = self._classify(pixels if len(good) == len(pixels) else pixels[good]) if good else None
        forward_ms = round((time.perf_counter() - started) * 1000, 3)
        answers = iter(self._answers(scores) if scores is not None else ())
        fates = []
        for claim, outcome in zip(claims, outcomes, strict=True):
            answer = next(answers) if outcome.error is None else _error(outcome.error)
            timings = {"decode_ms": round(outcome.ms, 3), "forward_ms": forward_ms, "batch": len(good)}
            fates.append(work.Fate(claim, **answer, timings=timings))
        return fates

    def _classify(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities [N, classes]; what the device could not do even alone is NaN."""
        count = math.ceil(len(pixels) / self.most)
        if not self._on_cpu:
            return np.concatenate([self._piece(piece) for piece in np.array_split(pixels, count)])
        count = max(count, min(CORES, len(pixels) // LEAST_ON_CPU))
        return np.concatenate(list(_cores().map(self._piece, np.array_split(pixels, count))))

    def _piece(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        try:
            return self.network.classify(pixels)
        except (torch.OutOfMemoryError, MemoryError):
            self.most = max(1, len(pixels) // 2)
            log.warning("out of memory at a batch of %d; from now on at most %d", len(pixels), self.most)
        if len(pixels) == 1:
            return np.full((1, len(self.labels)), np.nan, np.float32)
        return np.concatenate([self._piece(half) for half in np.array_split(pixels, 2)])

    def _answers(self, scores: npt.NDArray[np.float32]) -> Iterator[dict[str, Any]]:
        """What each picture's fate says besides its claim, for probabilities [N, classes]."""
        if scores.shape[1:] != (len(self.labels),):
            yield from (self._bad_output() for _ in scores)
            return
        # All at once: picture by picture the calls of numpy would take longer than the network on a GPU.
        rounded = np.round(scores.astype(np.float64), DIGITS).tolist()
        finite: list[bool] = np.isfinite(scores).all(axis=1).tolist()  # type: ignore[assignment]
        for values, best, is_finite in zip(rounded, scores.argmax(axis=1).tolist(), finite, strict=True):
            if is_finite:
                named = dict(zip(self.labels, values, strict=True))
                yield {"label": self.labels[best], "confidence": values[best], "scores": named}
            else:
                yield self._bad_output()

    def _bad_output(self) -> dict[str, Any]:
        detail = f"The network did not answer with {len(self.labels)} finite scores."
        return {"error_code": "bad_output", "error_detail": detail}


def _error(error: errors.BadPicture) -> dict[str, Any]:
    return {"error_code": error.code, "error_detail": error.detail}
