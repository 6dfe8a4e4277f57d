"""The short soak, and the checker that judges it."""

import pytest

from tests.soak import __main__ as soaking
from tests.soak import history


def judged(results, still_open=()):
    """What the checker says of four attempted pictures, three of them promised."""
    past = history.History()
    past.attempt({"a": {"sushi"}, "b": {"sushi"}, "c": {"undecodable"}, "d": {"sushi"}})
    past.acknowledge(["a", "b", "c"])
    return past.judge(results, set(still_open))


ALL = [("a", "sushi"), ("b", "sushi"), ("c", "undecodable")]


@pytest.mark.parametrize(
    ("results", "still_open", "counts"),
    [
        (ALL, (), {"ok": 3}),
        ([*ALL, ("d", "sushi")], (), {"ok": 3, "recovered": 1}),
        (ALL[1:], (), {"ok": 2, "lost": 1}),
        (ALL[1:], ("a",), {"ok": 2, "stuck": 1}),
        ([*ALL, ALL[0]], (), {"ok": 2, "duplicated": 1}),
        ([*ALL, ("x", "sushi")], (), {"ok": 3, "unexpected": 1}),
        ([("a", "sandwich"), *ALL[1:]], (), {"ok": 2, "unexpected": 1}),
        ([("a", "worker_lost"), *ALL[1:]], (), {"ok": 2, "unexpected": 1}),
    ],
)
def test_every_broken_promise_is_seen(results, still_open, counts):
    """Lost, stuck, twice, never sent, another label, an error for a label; and a lost answer is none of these."""
    totals, said = judged(results, still_open)
    nothing = dict.fromkeys(("ok", "lost", "duplicated", "unexpected", "stuck", "recovered"), 0)
    assert {name: getattr(totals, name) for name in nothing} == nothing | counts
    assert totals.good == (not said) == (set(counts) <= {"ok", "recovered"})


@pytest.mark.timeout(900)
def test_twenty_workers_killed_while_three_thousand_pictures_come_in(tmp_path):
    """Kill -9, twenty times in ninety seconds: nothing lost, nothing twice, nothing stuck, nobody innocent failed.

    With ten attempts: a worker is killed every four seconds, beside all other tests, and on a machine so busy three
    kills have met one picture in its turn at the network, which by default is one too many.
    """
    kills = {"count": 20, "minutes": 1.5, "kinds": ["worker_killed"], "max_attempts": 10}
    told, _ = soaking.soak(tmp_path, images=3000, seed=7, **kills)
    print(history.Totals(**told["totals"]))
    assert told["good"], told["broken_promises"]
    assert told["fault_count"] == 20
    assert told["totals"]["acknowledged"] >= 3000
    assert told["restarts_by_the_supervisor"] >= 18
