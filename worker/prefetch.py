"""Prefetching: claim and decode the next batches while one is being classified.

A batch that is being decoded for long is overtaken: images of other keys are claimed and decoded beside it, so that
they wait neither for it nor for the decoders that work on it.
"""

import collections
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent import futures
from typing import Any

from worker import batch, prefetch_policy, progress, settlement
from worker.stages import claim, decode

POLL_SECONDS = 0.1  # between two claims that overtake


class Prefetcher:
    """Claim and decode batches, in a thread of its own where they are ahead of the network."""

    def __init__(
        self,
        claim_stage: claim.ClaimStage,
        decode_stage: decode.DecodeStage,
        policy: prefetch_policy.PrefetchPolicy,
        settler: settlement.ClaimSettler,
        monitor: progress.RunMonitor,
        stop: threading.Event,
    ) -> None:
        self._claim_stage = claim_stage
        self._decode_stage = decode_stage
        self._policy = policy
        self._settler = settler
        self._monitor = monitor
        self._stop = stop
        self._executor = futures.ThreadPoolExecutor(1, "prefetch")
        self.decode_failed = False
        """Whether a batch of this run could not be decoded: nothing more is claimed until the next run."""

    def next_batch(self, *, only_new: bool = False, overtaken: Collection[str | None] = ()) -> batch.Batch | None:
        """Claim a batch and begin to decode it; return None if there is none, or if that failed."""
        claimed = self._claim_stage.claim(only_new=only_new, overtaken=overtaken)
        return claimed if claimed is not None and self._decode_stage.submit(claimed) else None

    def collect(self, pending: batch.Batch) -> bool:
        """Wait until a batch is decoded; return False if it could not be, which ends the run."""
        is_decoded = self._decode_stage.collect(pending)
        self.decode_failed = self.decode_failed or not is_decoded
        return is_decoded

    def decoded_batches(self, first: batch.Batch, deadline: float) -> Iterator[batch.Batch]:
        """Yield the first batch, and those claimed until the deadline, decoded and in claim order, unless overtaken.

        If the worker stops, the batches that were not yielded are handed back.
        """
        pending, ahead = collections.deque([first]), _ClaimAhead(self._executor, self.next_batch)
        while pending or ahead.future is not None:
            if (claimed := ahead.take()) is not None:
                self._monitor.record_progress()
                pending.append(claimed)
            ready = _take_decoded(pending)
            if ahead.future is None and not self.decode_failed:
                now = time.monotonic()
                if now < deadline and self._policy.wants_another(
                    pending, is_network_busy=ready is not None, is_queue_empty=ahead.queue_is_empty
                ):
                    ahead.begin()
                else:
                    ahead.begin_overtaking(prefetch_policy.overtaken_keys(pending, now))
            if ready is None:
                _wait_for_any(pending, ahead.future)
            else:
                self._monitor.record_progress()
                if self.collect(ready):
                    yield ready
            if self._stop.is_set():
                self._hand_back(pending, ahead.future)
                return

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown()

    def _hand_back(self, pending: Sequence[batch.Batch], next_claim: futures.Future[batch.Batch | None] | None) -> None:
        last_claimed = next_claim.result() if next_claim is not None else None
        for unstarted in filter(None, [*pending, last_claimed]):
            self._settler.release(unstarted.claims)


class _ClaimAhead:
    """The claim that is under way in another thread, of which there is one at most."""

    def __init__(self, executor: futures.Executor, claim: Callable[..., batch.Batch | None]) -> None:
        self._executor = executor
        self._claim = claim
        self._next_overtaking_at = 0.0
        self._is_overtaking = False
        self.future: futures.Future[batch.Batch | None] | None = None
        self.queue_is_empty = False
        """Whether the last claim has found nothing, except for one that overtakes."""

    def begin(self) -> None:
        """Claim a batch behind the others."""
        self._is_overtaking = False
        self.future = self._executor.submit(self._claim, only_new=True)

    def begin_overtaking(self, keys: Collection[str | None]) -> None:
        """Claim a batch that overtakes those of some keys, if there are any, and not too often."""
        if keys and time.monotonic() > self._next_overtaking_at:
            self._next_overtaking_at = time.monotonic() + POLL_SECONDS
            self._is_overtaking = True
            self.future = self._executor.submit(self._claim, only_new=True, overtaken=keys)

    def take(self) -> batch.Batch | None:
        """Return the batch of a claim that has ended just now; None if there is none."""
        if self.future is None or not self.future.done():
            return None
        claimed, self.future = self.future.result(), None
        if not self._is_overtaking:
            self.queue_is_empty = claimed is None
        return claimed


def _take_decoded(pending: collections.deque[batch.Batch]) -> batch.Batch | None:
    """Remove and return a batch that is decoded: the first one, or one that overtakes it; None if there is none."""
    ready = next((each for each in _next_batches(pending) if each.is_decoded), None)
    if ready is not None:
        pending.remove(ready)
    return ready


def _next_batches(pending: Sequence[batch.Batch]) -> list[batch.Batch]:
    """Return the batches that may be next: the first one, and those that overtake it."""
    return [each for number, each in enumerate(pending) if number == 0 or each.is_overtaking]


def _wait_for_any(pending: Sequence[batch.Batch], next_claim: futures.Future[batch.Batch | None] | None) -> None:
    """Wait for a while until the next batch is decoded, or another one is claimed."""
    awaited: list[futures.Future[Any] | None] = [*(each.decode_future for each in _next_batches(pending)), next_claim]
    futures.wait([each for each in awaited if each is not None], POLL_SECONDS, return_when=futures.FIRST_COMPLETED)
