import threading
import time
from concurrent import futures

import pytest

from core import group_commit


class Slow:
    """Serves when it is let, and remembers whom it served together."""

    def __init__(self):
        self.turns = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, asked):
        self.turns.append(list(asked))
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return [what * 10 for what in asked]


@pytest.fixture
def slow_task():
    return Slow()


def gathered(slow, shared, *asked):
    """Have the first served, and the others ask meanwhile, one after the other."""
    with futures.ThreadPoolExecutor(len(asked)) as pool:
        answers = [pool.submit(shared.submit, asked[0])]
        assert slow.begun.acquire(timeout=10)
        for count, what in enumerate(asked[1:], start=1):
            answers.append(pool.submit(shared.submit, what))
            while shared._pending is None or len(shared._pending[0]) < count:
                time.sleep(0.001)
        slow.go.release(2)
        futures.wait(answers, 10)
        return answers


def test_items_submitted_meanwhile_are_flushed_together(slow_task):
    """The first goes at once and alone; each gets the answer to what they asked."""
    answers = gathered(slow_task, group_commit.GroupCommit(slow_task), 1, 2, 3, 4)
    assert slow_task.turns == [[1], [2, 3, 4]]
    assert [answer.result() for answer in answers] == [10, 20, 30, 40]


def test_all_callers_of_a_failed_flush_return():
    """Its error is raised for all its items; the next flush works."""
    slow = Slow()

    def serve(asked):
        answers = slow(asked)
        if 2 in asked:
            raise ValueError("no twos")
        return answers

    shared = group_commit.GroupCommit(serve)
    one, *others = gathered(slow, shared, 1, 2, 3)
    assert one.result() == 10
    for other in others:
        with pytest.raises(ValueError, match="no twos"):
            other.result()
    slow.go.release()
    assert shared.submit(5) == 50


def test_single_items_are_flushed_at_once():
    """One by one, each is a turn."""
    turns = []
    shared = group_commit.GroupCommit(lambda asked: turns.append(asked) or asked)
    assert [shared.submit(what) for what in "abc"] == ["a", "b", "c"]
    assert turns == [["a"], ["b"], ["c"]]
