"""Fair share of keys."""

import pytest

from core.db.queries import claims as claim_queries
from core.db.queries.fair_claims import QueuedKey
from tests.support import modules
from worker import fair_share
from worker.decoding.decode_batch import DecodeOutcome


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the fair share, as a list with one number."""
    return modules.set_clock(monkeypatch, fair_share)


def make_claims(key, count, digest=None):
    """Return claims on images of a key, all different or with this digest."""
    return [claim_queries.Claim(n, "job", f"{n}", digest or f"{n}", 1, "w", None, api_key_id=key) for n in range(count)]


def serve(shares, key, count, cpu_ms):
    """Claim and decode images of a key."""
    claims = make_claims(key, count)
    shares.charge(claims)
    shares.observe(claims, [DecodeOutcome(None, cpu_ms, cpu_ms)] * count)


def queued(*names, interactive=()):
    """Return keys with queued images."""
    return [QueuedKey(name, is_interactive=name in interactive) for name in names]


def test_the_key_that_has_had_least_comes_first(clock):
    shares = fair_share.FairShare(2)
    serve(shares, "a", 30, 10)
    serve(shares, "b", 10, 10)
    assert [turn.key for turn in shares.take_turns(queued("a", "b", "c"))] == ["c", "b", "a"]


def test_what_a_key_has_had_is_forgotten(clock):
    """Half of it in half a minute, all of it in the end."""
    shares = fair_share.FairShare(2)
    serve(shares, "a", 30, 10)
    clock[0] += 90
    serve(shares, "b", 10, 10)
    assert [turn.key for turn in shares.take_turns(queued("a", "b"))] == ["a", "b"]
    clock[0] += 3600
    serve(shares, "c", 1, 1)
    assert set(shares._usages) == {"c"}


def test_interactive_counts_only_within_a_share(clock):
    """A key that sends everything as interactive comes behind the bulk images of another one."""
    shares = fair_share.FairShare(2)
    serve(shares, "greedy", 50, 100)
    serve(shares, "busy", 5, 10)
    first, second, third = shares.take_turns(queued("greedy", "busy", "quiet", interactive={"greedy", "busy"}))
    assert [first.key, second.key, third.key] == ["busy", "quiet", "greedy"]
    assert [first.weight, second.weight, third.weight] == [fair_share.INTERACTIVE_WEIGHT, 1, 1]


def test_bulk_images_are_claimed_however_many_keys_have_interactive_ones(clock):
    """In a batch where bulk images come first: a key that has had less comes before those with interactive images."""
    shares = fair_share.FairShare(2)
    names = [f"{n:02}" for n in range(20)]
    for name in names:
        serve(shares, name, 3, 10)
    serve(shares, "00", 30, 10)  # so that the others have used no more than their share
    serve(shares, "bulk", 1, 10)
    waiting = queued("bulk", *names, interactive=names)
    assert "bulk" not in [turn.key for turn in shares.take_turns(waiting)]
    first, *_ = shares.take_turns(waiting, bulk_first=True)
    assert (first.key, first.weight) == ("bulk", 1.0)


def test_slow_images_come_as_many_as_fit_in_the_time_of_a_batch(clock):
    """Of half a second each: as many as there are decoders, and one if another key is there; quick ones are not cut."""
    shares = fair_share.FairShare(2)
    assert shares.take_turns(queued("slow"))[0].max_digests == 1024
    serve(shares, "slow", 4, 500)
    assert shares.take_turns(queued("slow"))[0].max_digests == 2
    serve(shares, "slower", 5, 600)
    assert [turn.max_digests for turn in shares.take_turns(queued("slow", "slower"))] == [1, 1]
    serve(shares, "fast", 4, 2)
    assert shares.take_turns(queued("fast"))[0].max_digests == 500


def test_quick_images_share_no_batch_with_slow_ones(clock):
    """The key that has had least decides which of them it is."""
    shares = fair_share.FairShare(2)
    serve(shares, "slow", 1, 500)
    assert not shares.is_shared()
    serve(shares, "quick", 10, 1)
    assert shares.is_shared()
    assert (shares.is_slow("slow"), shares.is_slow("quick"), shares.is_slow("new")) == (True, False, False)
    assert [turn.key for turn in shares.take_turns(queued("slow", "quick", "new"))] == ["new", "quick"]
    serve(shares, "quick", 600, 1)
    shares.charge(make_claims("new", 100))
    assert [turn.key for turn in shares.take_turns(queued("slow", "quick", "new"))] == ["slow"]
    assert [turn.key for turn in shares.take_turns(queued("slow", "quick"), slow=False)] == ["quick"]
    assert shares.take_turns(queued("slow"), slow=False) == []


def test_a_cost_rises_at_once_and_falls_slowly(clock):
    """A key that mixes fast and slow images is taken for slow."""
    shares = fair_share.FairShare(2)
    serve(shares, "a", 10, 1)
    serve(shares, "a", 10, 500)
    serve(shares, "a", 10, 1)
    assert shares.take_turns(queued("a"))[0].max_digests == 2


def test_images_with_the_same_bytes_are_charged_once(clock):
    shares = fair_share.FairShare(2)
    shares.charge(make_claims("same", 100, "d"))
    shares.charge(make_claims("other", 2))
    assert [turn.key for turn in shares.take_turns(queued("same", "other"))] == ["same", "other"]


def test_a_batch_has_a_bounded_number_of_keys(clock):
    """Each costs a statement; those left out have had more."""
    shares = fair_share.FairShare(2)
    names = [f"k{n:02}" for n in range(20)]
    for n, name in enumerate(names):
        serve(shares, name, n + 1, 10)
    turns = shares.take_turns(queued(*reversed(names)))
    assert [turn.key for turn in turns] == names[: fair_share.MAX_KEYS_PER_BATCH]


def test_one_very_slow_image_makes_a_key_slow_for_a_while(clock):
    """However many quick ones it mixes with it."""
    shares = fair_share.FairShare(2)
    claims = make_claims("mixed", 100)
    shares.charge(claims)
    shares.observe(claims, [DecodeOutcome(None, 600, 600), *[DecodeOutcome(None, 1, 1)] * 99])
    assert shares.is_slow("mixed")
    clock[0] += fair_share.SLOW_KEY_SECONDS
    assert not shares.is_slow("mixed")


def test_overtaken_keys_have_no_turn(clock):
    shares = fair_share.FairShare(2)
    turns = shares.take_turns(queued("a", "b"), slow=False, without={"a"})
    assert [turn.key for turn in turns] == ["b"]
