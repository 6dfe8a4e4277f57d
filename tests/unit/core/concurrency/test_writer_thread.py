import threading

import pytest

from core.concurrency import blocking_call, writer_thread

TIMEOUT_SECONDS = 10


class HeldWrite:
    """A write that begins when it is let, and remembers its groups."""

    def __init__(self):
        self.groups = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, items):
        self.groups.append(list(items))
        self.begun.release()
        assert self.go.acquire(timeout=TIMEOUT_SECONDS)
        if "broken" in items:
            raise OSError("a fault of the test's own")
        return [ValueError(item) if item == "bad" else item.upper() for item in items]


@pytest.fixture
def held_write():
    """A write that is held."""
    return HeldWrite()


def submit_behind_another(held_write, *items, senders=None, **limits):
    """Submit one item, and the others while it is being written; return their futures."""
    options = {"max_items": 10, "weigh": len, "max_weight": 1000} | limits
    thread = writer_thread.WriterThread(held_write, name="test", **options)
    first = thread.submit("one", "first")
    assert held_write.begun.acquire(timeout=TIMEOUT_SECONDS)
    futures = [thread.submit(sender, item) for sender, item in zip(senders or ["one"] * len(items), items, strict=True)]
    held_write.go.release(10)
    assert first.result(TIMEOUT_SECONDS) == "FIRST"
    return futures


def test_items_submitted_meanwhile_are_written_together(held_write):
    """In their order; and each gets its own result or exception."""
    one, bad, three = submit_behind_another(held_write, "one", "bad", "three")
    assert (one.result(TIMEOUT_SECONDS), three.result(TIMEOUT_SECONDS)) == ("ONE", "THREE")
    with pytest.raises(ValueError, match="bad"):
        bad.result(TIMEOUT_SECONDS)
    assert held_write.groups == [["first"], ["one", "bad", "three"]]


def test_a_group_has_a_largest_size(held_write):
    """The rest is written next."""
    assert [future.result(TIMEOUT_SECONDS) for future in submit_behind_another(held_write, *"abc", max_items=2)]
    assert held_write.groups == [["first"], ["a", "b"], ["c"]]


def test_a_group_has_a_largest_weight(held_write):
    """Only its last item may exceed it."""
    for future in submit_behind_another(held_write, "aaa", "bbb", "c", max_weight=4):
        future.result(TIMEOUT_SECONDS)
    assert held_write.groups == [["first"], ["aaa", "bbb"], ["c"]]


def test_senders_take_turns(held_write):
    """A sender with one item does not wait for all those of another that came before."""
    for future in submit_behind_another(held_write, *"abcq", senders=["greedy"] * 3 + ["quiet"], max_items=2):
        future.result(TIMEOUT_SECONDS)
    assert held_write.groups == [["first"], ["a", "q"], ["b", "c"]]


def test_a_failed_write_fails_its_items_only(held_write):
    """The thread goes on."""
    one, broken, three = submit_behind_another(held_write, "one", "broken", "three", max_items=2)
    for future in (one, broken):
        with pytest.raises(OSError, match="a fault"):
            future.result(TIMEOUT_SECONDS)
    assert three.result(TIMEOUT_SECONDS) == "THREE"


def test_a_blocking_call_runs_in_the_thread_that_waits_for_it():
    """Its result and its exception are those of the future."""
    assert blocking_call.wait(blocking_call.BlockingCall(threading.get_ident)) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        blocking_call.wait(blocking_call.BlockingCall(lambda: 1 / 0))
