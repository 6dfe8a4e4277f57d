import os
import signal
import sys
import time

import pytest

from sortbelt import processes, stack


@pytest.fixture
def stubborn(tmp_path):
    """A child that does not heed SIGTERM."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    program = processes.Program("it", [sys.executable, "-c", code], dict(os.environ), tmp_path / "log")
    child = processes.Child(program)
    child.start()
    while child.last_lines() != "deaf":
        time.sleep(0.02)
    yield child
    child.signal_all(signal.SIGKILL)
    child._process.wait()


def test_what_does_not_stop_in_its_time_is_killed(stubborn):
    stack._end([stubborn], 0.5, lambda: False)

    assert stubborn._process.wait(timeout=5) == -signal.SIGKILL


def test_a_second_ctrl_c_leaves_no_time(stubborn):
    started = time.monotonic()

    stack._end([stubborn], 60, lambda: True)

    assert stubborn._process.wait(timeout=5) == -signal.SIGKILL
    assert time.monotonic() - started < 5


def test_what_dies_twice_before_all_ran_once_is_hopeless_and_its_last_words_are_told(tmp_path):
    said = []
    one = stack.Stack(stack.Plan(tmp_path, "127.0.0.1", 0), said.append)
    command = [sys.executable, "-c", "raise SystemExit('no model here')"]
    one._servers = [processes.Child(processes.Program("worker1", command, dict(os.environ), tmp_path / "log"))]

    def tend_for_ever():
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            one.tend()
            time.sleep(0.02)

    with pytest.raises(stack.Broken, match=r"worker1 died again and again.*\nno model here"):
        tend_for_ever()
    assert len(said) == 1


def test_redis_may_die_as_often_as_it_likes(tmp_path):
    one = stack.Stack(stack.Plan(tmp_path, "127.0.0.1", 0), lambda _: None)
    one._redis = processes.Child(processes.Program("redis", ["false"], dict(os.environ), tmp_path / "log"))
    one._redis.deaths = one._redis.deaths_in_a_row = 5_000
    one._redis.start()
    one._redis._process.wait()

    one.tend()

    assert one._redis.deaths == 5_001
