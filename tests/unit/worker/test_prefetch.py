"""Prefetching: which batches others are claimed behind."""

import threading
from types import SimpleNamespace

from core.db.queries import claims as claim_queries
from core.db.queries import counters
from worker import fair_share, prefetch
from worker.decoding.decode_batch import DecodeOutcome


def test_nothing_is_claimed_ahead_of_slow_images_while_keys_share_a_worker():
    """Others' images would wait for two batches of them; a key that is alone loses nothing."""
    shares = fair_share.FairShare(2)
    stage, sizers = SimpleNamespace(capacity=16), SimpleNamespace(size=lambda _: 8)
    prefetcher = prefetch.Prefetcher(None, stage, sizers, None, None, shares, threading.Event())
    loaded = SimpleNamespace(model_ref=SimpleNamespace(name="m"))
    slow, quick = (
        [claim_queries.Claim(0, "job", "0", "0", 1, "w", None, api_key_id=key)] * 4 for key in ("slow", "quick")
    )

    def should_prefetch(claims):
        full_batch = SimpleNamespace(
            claims=claims, flush_reason=counters.FlushReason.FULL, loaded=loaded, is_overtaking=False
        )
        return prefetcher._should_prefetch([full_batch])

    shares.charge(slow)
    shares.observe(slow, [DecodeOutcome(None, 500.0, 500.0)] * 4)
    assert should_prefetch(slow)
    shares.charge(quick)
    shares.observe(quick, [DecodeOutcome(None, 5.0, 5.0)] * 4)
    assert not should_prefetch(slow)
    assert should_prefetch(quick)
    prefetcher.close()
