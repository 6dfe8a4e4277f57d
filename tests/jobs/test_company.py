import threading
import time
from concurrent import futures

import pytest

from jobs import company


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
def slow():
    return Slow()


def gathered(slow, shared, *asked):
    """Have the first served, and the others ask meanwhile, one after the other."""
    with futures.ThreadPoolExecutor(len(asked)) as pool:
        answers = [pool.submit(shared.ask, asked[0])]
        assert slow.begun.acquire(timeout=10)
        for count, what in enumerate(asked[1:], start=1):
            answers.append(pool.submit(shared.ask, what))
            while shared._next is None or len(shared._next[0]) < count:
                time.sleep(0.001)
        slow.go.release(2)
        futures.wait(answers, 10)
        return answers


def test_who_asks_meanwhile_is_served_by_one_turn(slow):
    """The first goes at once and alone; each gets the answer to what they asked."""
    answers = gathered(slow, company.Company(slow), 1, 2, 3, 4)
    assert slow.turns == [[1], [2, 3, 4]]
    assert [answer.result() for answer in answers] == [10, 20, 30, 40]


def test_nobody_waits_for_ever_when_a_turn_fails():
    """What it raises, all who were in it get; the next turn is served."""
    slow = Slow()

    def serve(asked):
        answers = slow(asked)
        if 2 in asked:
            raise ValueError("no twos")
        return answers

    shared = company.Company(serve)
    one, *others = gathered(slow, shared, 1, 2, 3)
    assert one.result() == 10
    for other in others:
        with pytest.raises(ValueError, match="no twos"):
            other.result()
    slow.go.release()
    assert shared.ask(5) == 50


def test_who_is_alone_waits_for_nobody():
    """One by one, each is a turn."""
    turns = []
    shared = company.Company(lambda asked: turns.append(asked) or asked)
    assert [shared.ask(what) for what in "abc"] == ["a", "b", "c"]
    assert turns == [["a"], ["b"], ["c"]]
