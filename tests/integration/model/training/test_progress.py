"""A terminal gets a progress bar; a log gets a limited number of lines."""

import os
import pty
import re
import subprocess
import sys

from model.training import progress

SCRIPT = """
from model.training import progress
reporter = progress.reporter_for_stderr()
with reporter.track("fold 1/2", 3, 0):
    for epoch in range(3):
        reporter.update(epoch + 0.5, 10)
        reporter.epoch_done(epoch + 1, 0.5)
        reporter.update(epoch + 1, 10)
reporter.message("done")
"""


def test_a_log_gets_a_line_every_two_seconds_and_for_the_last_epoch(capsys):
    reporter = progress.LineReporter()
    with reporter.track("all", 200, 0):
        for epoch in range(1, 201):
            reporter.update(epoch, 32)
            reporter.epoch_done(epoch, 0.25)

    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) < 100
    assert re.fullmatch(r"all: epoch 200/200, loss 0\.2500, [\d.]+ epochs/s, \d+ images/s, 0:00:00 left", lines[-1])


def test_a_terminal_gets_a_bar():
    terminal, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=child_end, env=environment, check=True)
    os.close(child_end)
    output = os.read(terminal, 100_000).decode()
    os.close(terminal)

    assert "fold 1/2" in output
    assert re.search(r"epoch\S*\s+\S*3/3", output)
    assert "loss 0.5000" in output
    assert "\x1b[" in output
    assert output.rstrip().endswith("done")
