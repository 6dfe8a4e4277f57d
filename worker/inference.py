"""Inference: run the network over decoded images, and turn its probabilities into an outcome for each image."""

import functools
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from core import errors
from core.concurrency import cpu_count
from core.db.queries import claims as claim_queries
from model.inference import classifier, scoring
from worker.decoding import decode_batch

log = logging.getLogger(__name__)
MAX_CPU_BATCH = 16  # larger ones are not faster, and take more memory (benchmarks/README.md)
MIN_CPU_CHUNK = 4  # fewer images are not worth another core


_cpu_count = functools.cache(cpu_count.available_cpus)


@functools.cache
def _cpu_executor() -> futures.ThreadPoolExecutor:
    """Return one thread per core, each of which classifies chunks of a batch on the CPU.

    torch's own threads split every layer and spin at its end until all are done: beside busy decoders an image took
    20 ms of CPU instead of 4 (benchmarks/README.md).
    """
    return futures.ThreadPoolExecutor(_cpu_count(), "forward", lambda: torch.set_num_threads(1))


class Network(Protocol):
    """A loaded network, in this process or in another."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels in the order of the outputs."""

    @property
    def is_on_cpu(self) -> bool:
        """Whether it computes on this process's CPU cores."""

    def score(self, pixels: npt.NDArray[np.uint8]) -> classifier.Scores:
        """Return probabilities and familiarity for uint8 RGB pixels [N, height, width, 3]."""

    def unknown(self, count: int) -> classifier.Scores:
        """Return scores of NaN for `count` images."""


class BatchClassifier:
    """Classify batches of any size: if the device runs out of memory, halve the batch and remember the size."""

    def __init__(self, network: Network, max_batch: int = sys.maxsize) -> None:
        self.network = network
        self._labels = network.labels
        self._on_cpu = network.is_on_cpu
        self._max_batch = min(MAX_CPU_BATCH, max_batch) if self._on_cpu else max_batch
        """How many images go through the network at once; lowered when the device runs out of memory."""

    @property
    def device_capacity(self) -> int:
        """Return how many images the device takes at once; there is no limit on a CPU, which gets them in chunks."""
        return sys.maxsize if self._on_cpu else self._max_batch

    def classify(
        self,
        claims: Sequence[claim_queries.Claim],
        pixels: npt.NDArray[np.uint8],
        decode_outcomes: Sequence[decode_batch.DecodeOutcome],
    ) -> list[claim_queries.Outcome]:
        """Return an outcome for each claim, in order.

        Args:
            claims: N claims.
            pixels: uint8 [N, height, width, 3].
            decode_outcomes: N outcomes; images with an error are not given to the network.
        """
        decoded_rows = [row for row, outcome in enumerate(decode_outcomes) if outcome.error is None]
        started_at = time.perf_counter()
        decoded_pixels = pixels if len(decoded_rows) == len(pixels) else pixels[decoded_rows]
        scores = self._score(decoded_pixels) if decoded_rows else None
        forward_ms = round((time.perf_counter() - started_at) * 1000, 3)
        predictions = iter(
            scoring.predictions(scores.probabilities, self._labels, scores.familiarity) if scores else ()
        )
        outcomes = []
        for claim, decoded in zip(claims, decode_outcomes, strict=True):
            fields = self._fields(next(predictions)) if decoded.error is None else _error_fields(decoded.error)
            timings = {"decode_ms": round(decoded.ms, 3), "forward_ms": forward_ms, "batch": len(decoded_rows)}
            outcomes.append(claim_queries.Outcome(claim, **fields, timings=timings))
        return outcomes

    def _score(self, pixels: npt.NDArray[np.uint8]) -> classifier.Scores:
        """Return the scores; NaN for images that the device has no memory for even alone."""
        chunk_count = math.ceil(len(pixels) / self._max_batch)
        if not self._on_cpu:
            return classifier.concatenate([self._score_chunk(chunk) for chunk in np.array_split(pixels, chunk_count)])
        chunk_count = max(chunk_count, min(_cpu_count(), len(pixels) // MIN_CPU_CHUNK))
        chunks = np.array_split(pixels, chunk_count)
        return classifier.concatenate(list(_cpu_executor().map(self._score_chunk, chunks)))

    def _score_chunk(self, pixels: npt.NDArray[np.uint8]) -> classifier.Scores:
        try:
            return self.network.score(pixels)
        except (torch.OutOfMemoryError, MemoryError):
            self._max_batch = min(self._max_batch, max(1, len(pixels) // 2))
            log.warning(
                "out of memory at a batch of %d; batches have at most %d images from now on",
                len(pixels),
                self._max_batch,
            )
        if len(pixels) == 1:
            return self.network.unknown(1)
        return classifier.concatenate([self._score_chunk(half) for half in np.array_split(pixels, 2)])

    def _fields(self, prediction: scoring.Prediction | None) -> Mapping[str, Any]:
        """Return the fields of an outcome, from scores or from their lack."""
        if prediction is not None:
            return prediction
        detail = f"The network did not return {len(self._labels)} finite scores."
        return {"error_code": "bad_output", "error_detail": detail}


def _error_fields(error: errors.ImageFailed) -> Mapping[str, Any]:
    return {"error_code": error.code, "error_detail": error.detail}
