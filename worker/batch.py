"""The batch: the object that passes through the stages of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from core.db.queries import claims as claim_queries
from core.db.queries import counters
from worker import batch_tracing
from worker.decoding import decode_batch
from worker.models import loaded_model


@dataclass
class Batch:
    """Claimed images of one model version, and what each stage adds to them; one thread at a time works on it."""

    loaded: loaded_model.LoadedModel
    claims: Sequence[claim_queries.Claim]
    trace: batch_tracing.BatchTrace
    flush_reason: counters.FlushReason = counters.FlushReason.FULL
    """Why it is not larger."""
    decoded_rows: Sequence[int] = ()
    """The row of each claim among the images that are decoded: images with the same bytes share one."""
    decode_future: futures.Future[decode_batch.DecodeResult] | None = None
    pixels: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))
    """uint8 [N, height, width, 3], a row for each claim, once it is decoded."""
    decode_outcomes: Sequence[decode_batch.DecodeOutcome] = ()
    outcomes: Sequence[claim_queries.Outcome] = ()
    """An outcome for each claim, once it is classified; empty if that failed."""
    claimed_ns: int = field(default_factory=time.time_ns)
    """By the wall clock, in nanoseconds."""
    claimed_at: float = field(default_factory=time.monotonic)
    """The same moment by the monotonic clock."""
    decode_started_at: float | None = None
    """When its first image was about to be decoded, by the monotonic clock."""
    decoded_at: float | None = None
    """By the monotonic clock."""
    is_overtaking: bool = False
    """Whether it was claimed while another one was being decoded for long, and is decoded beside that."""
    decode_seconds: float = 0.0
    """How long the decoders worked on it."""

    @property
    def is_decoded(self) -> bool:
        """Return whether the decoders are done with it."""
        return self.decode_future is not None and self.decode_future.done()

    def record_decode_start(self) -> None:
        """Note that the first image is about to be decoded; called in a decoder's thread."""
        self.decode_started_at = time.monotonic()

    def record_decoded(self, _: object) -> None:
        """Note that the decoders are done with it; called in their thread."""
        self.decoded_at = time.monotonic()

    def select(self, rows: Sequence[int]) -> Batch:
        """Return some rows of a decoded batch, as copies."""
        claims, decode_outcomes = [self.claims[row] for row in rows], [self.decode_outcomes[row] for row in rows]
        return Batch(self.loaded, claims, self.trace, pixels=self.pixels[list(rows)], decode_outcomes=decode_outcomes)
