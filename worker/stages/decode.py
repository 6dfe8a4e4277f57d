"""Decode stage: turn the images of a batch into pixels, in the decoder processes."""

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from core.db.queries import claims as claim_queries
from core.sources import catalog
from worker import batch, fair_share, settlement
from worker.decoding import decode_batch, decoder_pool


@dataclass(eq=False)
class DecodeStage:
    """Submit batches to the decoder pool, and collect their pixels."""

    pool: decoder_pool.DecoderPool
    source_catalog: catalog.SourceCatalog
    settler: settlement.ClaimSettler
    shares: fair_share.FairShare
    stop: threading.Event
    _last_decoded_at: float = field(init=False, default=0.0)
    """When the last batch was decoded, by the monotonic clock."""

    def submit(self, claimed: batch.Batch) -> bool:
        """Begin to decode a batch; return False if that failed, and its claims are settled."""
        with self.settler.settle_on_error(claimed.claims):
            unique, claimed.decoded_rows = _share_decodes(claimed.claims)
            readers = [self.source_catalog.image_reader(claim.source, claim.location, claim.bytes) for claim in unique]
            sha256s = [claim.sha256 for claim in unique]
            preprocess, seconds = claimed.loaded.preprocess, fair_share.BATCH_SECONDS
            on_start, is_urgent = claimed.record_decode_start, claimed.is_overtaking
            future = self.pool.submit(sha256s, preprocess, self.stop, readers, seconds, on_start, is_urgent)
            future.add_done_callback(claimed.record_decoded)
            claimed.decode_future = future
            return True
        return False

    def collect(self, pending: batch.Batch) -> bool:
        """Wait for the pixels of a batch; return False if none of it was decoded, and its claims are settled.

        Images that were not started, because the worker stops or the time of a batch is over, are handed back and
        removed from the batch.
        """
        assert pending.decode_future is not None  # noqa: S101 (for the type checker)
        with self.settler.settle_on_error(pending.claims):
            with pending.trace.span("decode", pending.claimed_ns):
                pixels, outcomes = _for_each_claim(pending.decoded_rows, *pending.decode_future.result())
            decoded_at = pending.decoded_at or time.monotonic()
            # While it waited behind the batch before, the decoders were not working on it.
            pending.decode_seconds = decoded_at - max(pending.claimed_at, self._last_decoded_at)
            self._last_decoded_at = decoded_at
            rows = [row for row, outcome in enumerate(outcomes) if outcome is not None]
            if len(rows) < len(outcomes):
                self.settler.release([pending.claims[row] for row, outcome in enumerate(outcomes) if outcome is None])
                pending.claims, pixels = [pending.claims[row] for row in rows], pixels[rows]
            pending.pixels = pixels
            pending.decode_outcomes = [outcome for outcome in outcomes if outcome is not None]
            self.shares.observe(pending.claims, pending.decode_outcomes)
            return bool(rows)
        return False


def _share_decodes(
    claims: Sequence[claim_queries.Claim],
) -> tuple[list[claim_queries.Claim], list[int]]:
    """Return the claims whose images are to be decoded, and the row of each claim among them."""
    rows: dict[tuple[str, str | None, str | None], int] = {}
    unique: list[claim_queries.Claim] = []
    row_of_each = []
    for claim in claims:
        row = rows.setdefault((claim.sha256, claim.source, claim.location), len(unique))
        unique += [claim] if row == len(unique) else []
        row_of_each.append(row)
    return unique, row_of_each


def _for_each_claim(
    rows: Sequence[int], pixels: npt.NDArray[np.uint8], outcomes: Sequence[decode_batch.DecodeOutcome | None]
) -> tuple[npt.NDArray[np.uint8], list[decode_batch.DecodeOutcome | None]]:
    """Repeat pixels and outcomes for claims that share them; a repeated one took no time."""
    if len(rows) == len(outcomes):
        return pixels, list(outcomes)
    seen: set[int] = set()
    repeated = []
    for row in rows:
        outcome = outcomes[row]
        repeated.append(
            dataclasses.replace(outcome, ms=0.0, cpu_ms=0.0) if outcome is not None and row in seen else outcome
        )
        seen.add(row)
    return pixels[list(rows)], repeated
