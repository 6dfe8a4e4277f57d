"""Fair share: which keys have their turn in the next batch, by the recent usage of each (decision 37)."""

import math
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from core.db.queries import claims as claim_queries
from core.db.queries import fair_claims
from worker import batch_sizer
from worker.decoding import decode_batch

HALF_LIFE_SECONDS = 30.0  # after which the usage of a key counts half
MAX_KEYS_PER_BATCH = 8  # each costs a statement
INTERACTIVE_WEIGHT = 4.0  # of a key that has used no more than its share, against 1 for all others
UNKNOWN_COST_SECONDS = 0.01  # charged for an image of a key of which none was decoded yet
BATCH_SECONDS = 2 * batch_sizer.TARGET_SECONDS  # of decoding in a batch; what is not started by then is handed back
SLOW_SECONDS = 0.1  # an image that takes longer is slow: quick ones are not put behind it, in one batch with it
SLOW_KEY_SECONDS = 30.0  # for so long a key is slow after one image that took longer than a batch may
LEARNING_RATE = 0.2
FORGET_BELOW_SECONDS = 0.001


@dataclass
class _Usage:
    seconds: float = 0.0
    """Its usage, as of `updated_at`, decayed."""
    updated_at: float = 0.0
    cost: float | None = None
    """Seconds of CPU to decode one of its images, lately; None if that is not known."""
    slow_until: float = 0.0
    """Until when it counts as slow, whatever the mean cost of its images."""


class FairShare:
    """The seconds of this worker that each key has used, and the cost of its images; thread-safe."""

    def __init__(self, decoders: int) -> None:
        self._decoders = decoders
        self._lock = threading.Lock()
        self._usages: dict[str | None, _Usage] = {}

    def take_turns(
        self,
        queued: Sequence[fair_claims.QueuedKey],
        bulk_first: bool = False,
        *,
        slow: bool | None = None,
        without: Collection[str | None] = (),
    ) -> list[fair_claims.Turn]:
        """Choose the keys of the next batch, by ascending usage: all with slow images, or all without.

        *Interactive* counts for a key only while it has used no more than its share of the keys that are waiting.

        Args:
            queued: the keys to choose from.
            bulk_first: whether *interactive* does not count, so that bulk images are claimed however many keys have
                interactive ones.
            slow: whether to choose those with slow images; by default, whether the first one has.
            without: keys that have no turn.
        """
        queued = [key for key in queued if key.id not in without]
        with self._lock:
            seconds = {key.id: self._seconds(key.id) for key in queued}
            share = sum(seconds.values()) / max(1, len(seconds))
            is_preferred = {
                key.id: key.is_interactive and not bulk_first and seconds[key.id] <= share for key in queued
            }
            chosen = sorted(seconds, key=lambda id_: (not is_preferred[id_], seconds[id_], id_ or ""))
            if chosen and slow is None:
                slow = self._is_slow(chosen[0])
            chosen = [key for key in chosen if self._is_slow(key) == slow][:MAX_KEYS_PER_BATCH]
            return [
                fair_claims.Turn(id_, INTERACTIVE_WEIGHT if is_preferred[id_] else 1.0, self._max_digests(id_, chosen))
                for id_ in chosen
            ]

    def is_slow(self, key: str | None) -> bool:
        """Return whether the images of a key are slow to decode, lately."""
        with self._lock:
            return self._is_slow(key)

    def is_shared(self) -> bool:
        """Return whether several keys have used this worker lately."""
        with self._lock:
            return len(self._usages) > 1

    def charge(self, claims: Iterable[claim_queries.Claim]) -> None:
        """Charge keys for claimed images, by what their images cost lately."""
        with self._lock:
            for key, _ in {(claim.api_key_id, claim.sha256) for claim in claims}:
                usage, seconds = self._usages.setdefault(key, _Usage()), self._seconds(key)
                usage.seconds = seconds + (usage.cost or UNKNOWN_COST_SECONDS)
                usage.updated_at = time.monotonic()

    def observe(self, claims: Sequence[claim_queries.Claim], outcomes: Sequence[decode_batch.DecodeOutcome]) -> None:
        """Learn what the images of each key cost to decode: at once if it is more than before, else slowly."""
        seconds_by_key: dict[str | None, list[float]] = {}
        for claim, outcome in zip(claims, outcomes, strict=True):
            if outcome.cpu_ms:
                seconds_by_key.setdefault(claim.api_key_id, []).append(outcome.cpu_ms / 1000)
        with self._lock:
            for key, seconds in seconds_by_key.items():
                usage, mean = self._usages.setdefault(key, _Usage()), sum(seconds) / len(seconds)
                previous = mean if usage.cost is None else usage.cost
                usage.cost = max(mean, previous + LEARNING_RATE * (mean - previous))
                if max(seconds) > BATCH_SECONDS:
                    usage.slow_until = time.monotonic() + SLOW_KEY_SECONDS
            self._forget()

    def _seconds(self, key: str | None) -> float:
        usage = self._usages.get(key)
        if usage is None:
            return 0.0
        return usage.seconds * math.exp2((usage.updated_at - time.monotonic()) / HALF_LIFE_SECONDS)

    def _is_slow(self, key: str | None) -> bool:
        usage = self._usages.get(key)
        if usage is None or usage.cost is None:
            return False
        return usage.cost > SLOW_SECONDS or usage.slow_until > time.monotonic()

    def _max_digests(self, key: str | None, chosen: Sequence[str | None]) -> int:
        """Return how many images of a key the decoders get through in its part of the time of a batch."""
        usage = self._usages.get(key)
        if usage is None or not usage.cost:
            return batch_sizer.MAX_SIZE  # too many of slow ones are handed back
        seconds = BATCH_SECONDS * self._decoders / len(chosen)
        return max(1, min(batch_sizer.MAX_SIZE, int(seconds / usage.cost)))

    def _forget(self) -> None:
        """Drop keys that have used nothing for long."""
        idle_keys = [key for key in self._usages if self._seconds(key) < FORGET_BELOW_SECONDS]
        for key in idle_keys:
            del self._usages[key]
