"""Prefetch policy: when another batch is claimed behind those in hand, and which of them others overtake."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.db.queries import counters
from worker import batch, batch_sizer, fair_share

MAX_PREFETCH = 3  # batches claimed ahead of the network: more would keep them from other workers
MIN_PREFETCH = 2
SLOW_RATIO = 4  # a full batch that is so much smaller than what keeps the decoders busy has slow images
OVERDUE_SECONDS = fair_share.BATCH_SECONDS  # after which a batch is overtaken: it has started its last image by then
MAX_OVERDUE = 8  # batches; each is of other keys


@dataclass(frozen=True)
class PrefetchPolicy:
    """Decide by the batches in hand, in claim order, that the network has not begun with."""

    sizers: batch_sizer.BatchSizers
    shares: fair_share.FairShare
    decoder_capacity: int
    """How many images keep all decoders busy."""

    def wants_another(self, pending: Sequence[batch.Batch], *, is_network_busy: bool, is_queue_empty: bool) -> bool:
        """Return whether to claim another batch behind the pending ones.

        One is enough while the network is busy. While it waits for the decoders, more are claimed, but only behind full
        ones: images that arrive meanwhile go together.
        """
        if is_network_busy:
            return not pending
        if is_queue_empty:
            return False
        if not pending:
            return True
        last = pending[-1]
        if last.flush_reason is not counters.FlushReason.FULL or any(each.is_overtaking for each in pending):
            return False
        if self.shares.is_shared() and self.shares.is_slow(last.claims[0].api_key_id):
            return False  # others' images would wait for two slow batches
        batches_are_large = self.sizers.size(last.loaded.model_ref.name) >= 2 * self.decoder_capacity
        images_are_slow = len(last.claims) <= self.decoder_capacity // SLOW_RATIO
        return len(pending) < (MIN_PREFETCH if batches_are_large or images_are_slow else MAX_PREFETCH)


def overtaken_keys(pending: Sequence[batch.Batch], now: float) -> set[str | None]:
    """Return the keys whose batches others overtake now; none while another batch overtakes them already."""
    overdue = [each for each in pending if _is_overdue(each, now)]
    if len(overdue) > MAX_OVERDUE or any(each.is_overtaking for each in pending if each not in overdue):
        return set()
    return {claim.api_key_id for each in overdue for claim in each.claims}


def _is_overdue(pending: batch.Batch, now: float) -> bool:
    started_at = pending.decode_started_at
    return started_at is not None and not pending.is_decoded and now - started_at > OVERDUE_SECONDS
