"""People on a terminal see a bar; a log gets lines, and not too many."""

import os
import pty
import re
import subprocess
import sys

import pytest

from model import progress

SHOWN = """
from model import progress
watch = progress.on_stderr()
with watch.training("fold 1/2", 3, 0):
    for epoch in range(3):
        watch.step(epoch + 0.5, 10)
        watch.epoch(epoch + 1, 0.5)
        watch.step(epoch + 1, 10)
watch.say("done")
"""


def test_a_log_gets_a_line_every_few_seconds_and_for_the_last_epoch(capsys):
    watch = progress.Lines()
    with watch.training("all", 200, 0):
        for epoch in range(1, 201):
            watch.step(epoch, 32)
            watch.epoch(epoch, 0.25)

    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) < 100
    assert re.fullmatch(r"all: epoch 200/200, loss 0\.2500, [\d.]+ epochs/s, \d+ images/s, 0:00 left", lines[-1])


def test_a_terminal_gets_a_bar():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    subprocess.run([sys.executable, "-c", SHOWN], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)

    assert "fold 1/2" in shown
    assert "epoch 3/3" in shown
    assert "loss 0.5000" in shown
    assert "\x1b[" in shown
    assert shown.rstrip().endswith("done")


@pytest.mark.parametrize(("seconds", "told"), [(0, "0:00"), (61, "1:01"), (3725, "1:02:05")])
def test_time_left_is_told_as_on_a_clock(seconds, told):
    assert progress._clock(seconds) == told
