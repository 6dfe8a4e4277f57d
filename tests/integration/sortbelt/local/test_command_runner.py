import os
import signal
import sys
import time
from pathlib import Path

import pytest

from sortbelt import errors
from sortbelt.local import command_runner
from tests.support import waiting

FOLDER = Path("/data")


@pytest.fixture
def run_command():
    """Run Python code as a wrapped command; kill it at the end."""
    made = []

    def make(code):
        made.append(command_runner.WrappedCommand([sys.executable, "-c", code], "http://here", "sb_key", FOLDER))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def ended(one):
    waiting.wait_until(lambda: one.exit_code() is not None)
    return one.exit_code()


def test_a_command_gets_the_address_of_the_server_and_its_data_folder(run_command):
    code = "import os, sys; sys.exit([os.environ['SORTBELT_' + name] for name in ('URL', 'KEY', 'DATA_DIR')] != "

    assert ended(run_command(f"{code} ['http://here', 'sb_key', '/data'])")) == 0


def test_its_exit_code_is_reported_as_a_shell_would(run_command):
    assert ended(run_command("raise SystemExit(7)")) == 7
    assert ended(run_command(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")) == 137


def test_a_command_is_terminated(run_command):
    one = run_command("import time; time.sleep(60)")

    one.request_stop(interrupted=False, force=False)

    assert ended(one) == 128 + signal.SIGTERM


def test_a_command_that_got_ctrl_c_has_time_to_end(run_command, monkeypatch):
    one = run_command("import time; time.sleep(60)")

    one.request_stop(interrupted=True, force=False)
    time.sleep(0.2)
    assert one.exit_code() is None
    monkeypatch.setattr(command_runner, "INTERRUPT_GRACE_SECONDS", 0.1)
    one.request_stop(interrupted=True, force=False)

    assert ended(one) == 128 + signal.SIGTERM


def test_a_command_that_does_not_exist_is_said():
    with pytest.raises(errors.BadInput, match="no-such-command cannot be run"):
        command_runner.WrappedCommand(["no-such-command"], "http://here", "sb_key", FOLDER)
    assert "SORTBELT_URL" not in os.environ
