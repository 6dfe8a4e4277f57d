import threading
import time

import pytest

from sortbelt import threads


def test_every_item_is_worked_on_once():
    assert sorted(threads.each(lambda n: n * n, range(100), threads=4)) == [n * n for n in range(100)]


def test_calls_run_at_the_same_time():
    together = threading.Barrier(3)

    assert list(threads.each(lambda _: together.wait(timeout=10) >= 0, range(3), threads=3)) == [True] * 3


def test_items_are_taken_only_as_fast_as_they_are_worked_off():
    taken = []

    outcomes = threads.each(lambda n: n, (taken.append(n) or n for n in range(1000)), threads=2)
    next(outcomes)

    assert len(taken) <= 5


def test_an_error_reaches_the_caller_and_ends_it():
    def work(n):
        if n == 3:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError, match="3"):
        list(threads.each(work, range(10), threads=1))


def test_the_threads_end_when_the_work_is_done():
    before = set(threading.enumerate())

    list(threads.each(lambda n: n, range(10), threads=4))

    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
