"""Prefetch policy: which batches others are claimed behind, and which ones they overtake."""

from types import SimpleNamespace

import pytest

from core.db.queries import claims as claim_queries
from core.db.queries import counters
from worker import fair_share, prefetch_policy
from worker.decoding.decode_batch import DecodeOutcome

CAPACITY = 16


def make_batch(key="key", count=8, reason=counters.FlushReason.FULL, **fields):
    """Return a batch of one key that is being decoded."""
    claims = [claim_queries.Claim(0, "job", "0", "0", 1, "w", None, api_key_id=key)] * count
    loaded = SimpleNamespace(model_ref=SimpleNamespace(name="m"))
    defaults = {"is_overtaking": False, "is_decoded": False, "decode_started_at": 0.0}
    return SimpleNamespace(claims=claims, flush_reason=reason, loaded=loaded, **defaults | fields)


def make_policy(batch_size=8, shares=None):
    """Return a policy with this size of batches."""
    sizers = SimpleNamespace(size=lambda _: batch_size)
    return prefetch_policy.PrefetchPolicy(sizers, shares or fair_share.FairShare(2), CAPACITY)


def wants_another(pending, policy=None, *, is_network_busy=False, is_queue_empty=False):
    """Ask whether another batch is claimed; by default, while the network waits and more is queued."""
    policy = policy or make_policy()
    return policy.wants_another(pending, is_network_busy=is_network_busy, is_queue_empty=is_queue_empty)


def test_one_batch_is_decoded_while_the_network_is_busy():
    """Also where the last claim found nothing: images may have come meanwhile."""
    assert wants_another([], is_network_busy=True)
    assert wants_another([], is_network_busy=True, is_queue_empty=True)
    assert not wants_another([make_batch()], is_network_busy=True)


def test_nothing_is_claimed_while_the_network_waits_and_the_queue_is_empty():
    assert wants_another([])
    assert not wants_another([], is_queue_empty=True)
    assert not wants_another([make_batch()], is_queue_empty=True)


@pytest.mark.parametrize(
    ("count", "batch_size", "most"),
    [(8, 8, 3), (8, 2 * CAPACITY, 2), (CAPACITY // 4, 8, 2)],
    ids=["quick images", "large batches", "slow images"],
)
def test_a_few_full_batches_wait_for_the_decoders(count, batch_size, most):
    """Two are enough if they keep the decoders busy for long."""
    policy, pending = make_policy(batch_size), [make_batch(count=count)] * 3
    assert [wants_another(pending[:number], policy) for number in (1, 2, 3)] == [True, most == 3, False]


def test_nothing_is_claimed_behind_a_batch_that_is_not_full():
    """Images that arrive meanwhile go together."""
    assert not wants_another([make_batch(reason=counters.FlushReason.DRAIN)])


def test_nothing_is_claimed_behind_a_batch_that_overtakes():
    assert not wants_another([make_batch(is_overtaking=True), make_batch()])


def test_nothing_is_claimed_ahead_of_slow_images_while_keys_share_a_worker():
    """Others' images would wait for two batches of them; a key that is alone loses nothing."""
    shares = fair_share.FairShare(2)
    policy, slow, quick = make_policy(shares=shares), make_batch("slow"), make_batch("quick")
    shares.charge(slow.claims)
    shares.observe(slow.claims, [DecodeOutcome(None, 500.0, 500.0)] * 8)
    assert wants_another([slow], policy)
    shares.charge(quick.claims)
    shares.observe(quick.claims, [DecodeOutcome(None, 5.0, 5.0)] * 8)
    assert not wants_another([slow], policy)
    assert wants_another([quick], policy)


def test_the_keys_of_overdue_batches_are_overtaken():
    """Not of one that is decoded, has not begun, or has begun lately."""
    late = prefetch_policy.OVERDUE_SECONDS + 1
    others = [
        make_batch("decoded", is_decoded=True),
        make_batch("waits", decode_started_at=None),
        make_batch("begun", decode_started_at=late - 0.1),
    ]
    assert prefetch_policy.overtaken_keys([make_batch("a"), make_batch("b"), *others], late) == {"a", "b"}
    assert prefetch_policy.overtaken_keys(others, late) == set()


def test_one_batch_at_a_time_overtakes():
    """The next one follows when that is overdue too, up to a number."""
    late, overtaking = prefetch_policy.OVERDUE_SECONDS + 1, make_batch("b", is_overtaking=True, decode_started_at=None)
    assert prefetch_policy.overtaken_keys([make_batch("a"), overtaking], late) == set()
    overtaking.decode_started_at = 0.0
    assert prefetch_policy.overtaken_keys([make_batch("a"), overtaking], late) == {"a", "b"}
    assert prefetch_policy.overtaken_keys([make_batch("a")] * (prefetch_policy.MAX_OVERDUE + 1), late) == set()
