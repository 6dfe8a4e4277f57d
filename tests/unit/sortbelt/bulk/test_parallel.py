import threading
import time

import pytest

from sortbelt.bulk import parallel
from tests.support import waiting


def test_every_item_is_worked_on_once():
    assert sorted(parallel.parallel_map(lambda n: n * n, range(100), thread_count=4)) == [n * n for n in range(100)]


def test_calls_run_at_the_same_time():
    together = threading.Barrier(3)

    assert list(parallel.parallel_map(lambda _: together.wait(timeout=10) >= 0, range(3), thread_count=3)) == [True] * 3


def test_items_are_taken_only_as_fast_as_they_are_worked_off():
    taken = []

    outcomes = parallel.parallel_map(lambda n: n, (taken.append(n) or n for n in range(1000)), thread_count=2)
    next(outcomes)

    assert len(taken) <= 5


def test_an_error_reaches_the_caller_and_ends_it():
    def work(n):
        if n == 3:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError, match="3"):
        list(parallel.parallel_map(work, range(10), thread_count=1))


def test_after_an_error_nothing_begins_and_what_had_begun_has_ended():
    """The caller may then close what the threads use."""
    begun, ended, both = [], [], threading.Barrier(2)

    def work(n):
        begun.append(n)
        both.wait(timeout=10)
        if n == 0:
            raise ValueError(n)
        time.sleep(1)
        ended.append(n)

    with pytest.raises(ValueError, match="0"):
        list(parallel.parallel_map(work, range(10), thread_count=2))

    assert (sorted(begun), ended) == ([0, 1], [1])


def test_what_hangs_after_an_error_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(parallel, "SHUTDOWN_TIMEOUT_SECONDS", 0.1)
    hung = threading.Event()

    def work(n):
        if n:
            hung.wait(60)
        raise ValueError(n)

    started = time.monotonic()
    with pytest.raises(ValueError, match="0"):
        list(parallel.parallel_map(work, range(2), thread_count=2))

    assert time.monotonic() - started < 30
    hung.set()


def test_the_threads_end_when_the_work_is_done():
    before = set(threading.enumerate())

    list(parallel.parallel_map(lambda n: n, range(10), thread_count=4))

    waiting.wait_until(lambda: not set(threading.enumerate()) - before)
