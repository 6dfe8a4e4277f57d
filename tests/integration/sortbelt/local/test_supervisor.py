import os
import signal
import sys
import time

import pytest

from sortbelt.local import child_process, ports, supervisor
from tests.support import waiting


@pytest.fixture
def unstoppable_child(tmp_path):
    """A child that does not heed SIGTERM."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    program = child_process.Program("it", [sys.executable, "-c", code], dict(os.environ), tmp_path / "log")
    child = child_process.SupervisedProcess(program)
    child.start()
    waiting.wait_until(lambda: child.last_lines() == "deaf")
    yield child
    child.signal_all(signal.SIGKILL)
    child._process.wait()


def test_what_does_not_stop_in_its_time_is_killed(unstoppable_child):
    supervisor._stop_processes([unstoppable_child], 0.5, lambda: False)

    assert unstoppable_child._process.wait(timeout=50) == -signal.SIGKILL


def test_a_second_ctrl_c_leaves_no_time(unstoppable_child):
    started = time.monotonic()

    supervisor._stop_processes([unstoppable_child], 60, lambda: True)

    assert unstoppable_child._process.wait(timeout=50) == -signal.SIGKILL
    assert time.monotonic() - started < 50


def test_a_process_that_exits_twice_before_the_stack_is_ready_ends_it_and_its_log_is_shown(tmp_path):
    said = []
    one = supervisor.Supervisor(supervisor.StackConfig(tmp_path, "127.0.0.1", 0), said.append)
    command = [sys.executable, "-c", "raise SystemExit('no model here')"]
    one._servers = [
        child_process.SupervisedProcess(child_process.Program("worker1", command, dict(os.environ), tmp_path / "log"))
    ]

    with pytest.raises(supervisor.StackFailed, match=r"worker1 keeps exiting.*\nno model here"):
        waiting.wait_until(one.check)
    assert len(said) == 1


def test_a_stack_that_is_ready_at_once_can_be_stopped_before_it_is_announced(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "not_ready_reason", lambda *_: "")
    stack = supervisor.Supervisor(supervisor.StackConfig(tmp_path, "127.0.0.1", 0), lambda _: None)

    next(stack.wait_until_ready())

    assert not list(tmp_path.iterdir())


def test_redis_may_die_as_often_as_it_likes(tmp_path):
    one = supervisor.Supervisor(supervisor.StackConfig(tmp_path, "127.0.0.1", 0), lambda _: None)
    one._redis = child_process.SupervisedProcess(
        child_process.Program("redis", ["false"], dict(os.environ), tmp_path / "log")
    )
    one._redis.crashes = one._redis.consecutive_crashes = 5_000
    one._redis.start()
    one._redis._process.wait()

    one.check()

    assert one._redis.crashes == 5_001
