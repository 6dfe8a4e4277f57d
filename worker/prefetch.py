"""Prefetching: claim and decode the next batches while one is being classified."""

import collections
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

from core.db.queries import counters
from worker import batch, batch_sizer, fair_share, progress, settlement
from worker.stages import claim, decode

MAX_PREFETCH = 3  # batches claimed ahead of the network: more would keep them from other workers
MIN_PREFETCH = 2
SLOW_RATIO = 4  # a full batch that is so much smaller than what keeps the decoders busy has slow images


class Prefetcher:
    """Claim and decode batches, in a thread of its own where they are ahead of the network."""

    def __init__(
        self,
        claim_stage: claim.ClaimStage,
        decode_stage: decode.DecodeStage,
        sizers: batch_sizer.BatchSizers,
        settler: settlement.ClaimSettler,
        monitor: progress.RunMonitor,
        shares: fair_share.FairShare,
        stop: threading.Event,
    ) -> None:
        self._claim_stage = claim_stage
        self._decode_stage = decode_stage
        self._sizers = sizers
        self._settler = settler
        self._monitor = monitor
        self._stop = stop
        self._shares = shares
        self._executor = futures.ThreadPoolExecutor(1, "prefetch")
        self.decode_failed = False
        """Whether a batch of this run could not be decoded: nothing more is claimed until the next run."""

    def next_batch(self, *, only_new: bool = False) -> batch.Batch | None:
        """Claim a batch and begin to decode it; return None if there is none, or if that failed."""
        claimed = self._claim_stage.claim(only_new=only_new)
        return claimed if claimed is not None and self._decode_stage.submit(claimed) else None

    def collect(self, pending: batch.Batch) -> bool:
        """Wait until a batch is decoded; return False if it could not be, which ends the run."""
        is_decoded = self._decode_stage.collect(pending)
        self.decode_failed = self.decode_failed or not is_decoded
        return is_decoded

    def decoded_batches(self, first: batch.Batch, deadline: float) -> Iterator[batch.Batch]:
        """Yield the first batch, and those claimed until the deadline, decoded and in claim order.

        If the worker stops, the batches that were not yielded are handed back.
        """
        pending = collections.deque([first])
        next_claim: futures.Future[batch.Batch | None] | None = None
        queue_is_empty = False
        while pending or next_claim is not None:
            self._monitor.record_progress()
            if next_claim is not None and next_claim.done():
                claimed, next_claim = next_claim.result(), None
                queue_is_empty = claimed is None  # until another batch is classified
                pending.extend([claimed] if claimed is not None else [])
            ready = pending.popleft() if pending and pending[0].is_decoded else None
            has_demand = not pending if ready is not None else not queue_is_empty and self._should_prefetch(pending)
            if has_demand and next_claim is None and time.monotonic() < deadline and not self.decode_failed:
                next_claim = self._executor.submit(self.next_batch, only_new=True)
            if ready is None:
                _wait_for_first(pending, next_claim)
            elif self.collect(ready):
                yield ready
            if self._stop.is_set():
                self._hand_back(pending, next_claim)
                return

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown()

    def _should_prefetch(self, pending: Sequence[batch.Batch]) -> bool:
        """Return whether to claim another batch before the first of these is decoded: only behind full ones."""
        if not pending:
            return True
        last = pending[-1]
        if self._shares.is_shared() and self._shares.is_slow(last.claims[0].api_key_id):
            return False  # others' images would wait for two slow batches
        batches_are_large = self._sizers.size(last.loaded.model_ref.name) >= 2 * self._decode_stage.capacity
        images_are_slow = len(last.claims) <= self._decode_stage.capacity // SLOW_RATIO
        max_prefetch = MIN_PREFETCH if batches_are_large or images_are_slow else MAX_PREFETCH
        return last.flush_reason is counters.FlushReason.FULL and len(pending) < max_prefetch

    def _hand_back(self, pending: Sequence[batch.Batch], next_claim: futures.Future[batch.Batch | None] | None) -> None:
        last_claimed = next_claim.result() if next_claim is not None else None
        for unstarted in filter(None, [*pending, last_claimed]):
            self._settler.release(unstarted.claims)


def _wait_for_first(pending: Sequence[batch.Batch], next_claim: futures.Future[batch.Batch | None] | None) -> None:
    """Wait until the first pending batch is decoded, or another one is claimed."""
    awaited: list[futures.Future[Any] | None] = [*(each.decode_future for each in list(pending)[:1]), next_claim]
    futures.wait([future for future in awaited if future is not None], return_when=futures.FIRST_COMPLETED)
