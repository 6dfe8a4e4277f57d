import os
import signal
import subprocess
import sys

import psutil
import pytest

from sortbelt.local import child_process
from tests.support import waiting


@pytest.fixture
def start_child(tmp_path):
    """Makes children of Python code, and ends what is left of them."""
    made = []

    def make(code, **choices):
        program = child_process.Program(
            "it", [sys.executable, "-c", code], dict(os.environ), tmp_path / "log", **choices
        )
        made.append(child_process.SupervisedProcess(program))
        return made[-1]

    yield make
    for one in made:
        one.signal_all(signal.SIGKILL)
        if one._process:
            one._process.wait()
            if one._process.stdin:
                one._process.stdin.close()


def test_what_it_says_is_in_its_log(start_child):
    one = start_child("import sys; print('out'); print('err', file=sys.stderr)")
    one.start()

    waiting.wait_until(lambda: not one.is_alive)
    assert set(one.last_lines().split()) == {"out", "err"}


def test_a_child_that_was_killed_is_started_again_after_a_pause(start_child):
    one = start_child("import time; time.sleep(60)")
    one.start()
    one.signal(signal.SIGKILL)

    waiting.wait_until(lambda: not one.is_alive)
    assert "it was killed by SIGKILL; restart in 0.5 s" in one.check()
    assert one.check() is None
    assert not one.is_alive
    waiting.wait_until(lambda: one.check() is None and one.is_alive)


def test_deaths_in_a_row_are_counted_and_the_pauses_grow(start_child):
    one = start_child("raise SystemExit(4)")
    said = []
    one.start()

    waiting.wait_until(lambda: (sentence := one.check()) is not None and (said.append(sentence) or len(said) == 3))

    assert one.consecutive_crashes == 3
    assert ["in 0.5 s" in said[0], "in 1 s" in said[1], "in 2 s" in said[2]] == [True] * 3
    assert "exit code 4" in said[0]


def test_what_a_dead_child_left_behind_is_ended(start_child):
    one = start_child("import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)")
    one.start()
    waiting.wait_until(lambda: one.last_lines().isdigit() and not one.is_alive)
    grandchild = int(one.last_lines())
    assert psutil.pid_exists(grandchild)

    one.check()

    waiting.wait_until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie")


def test_ctrl_c_in_the_terminal_does_not_reach_it(start_child):
    one = start_child("import time; time.sleep(60)")
    one.start()

    assert os.getpgid(one._process.pid) != os.getpgid(0)


def test_children_end_when_their_supervisor_is_killed(tmp_path):
    script = f"""
import os, pathlib, signal
from sortbelt.local import child_process
log = pathlib.Path({str(tmp_path)!r}) / "log"
print(child_process.launch(child_process.Program("it", ["sleep", "60"], dict(os.environ), log)).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    supervisor = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    orphan = int(supervisor.stdout)

    assert supervisor.returncode == -signal.SIGKILL
    waiting.wait_until(lambda: not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == "zombie")
