import os
import signal
import sys
import time

import pytest

from sortbelt import errors
from sortbelt.local import command_runner
from tests.support import waiting


@pytest.fixture
def run_command():
    """Run Python code as a wrapped command; kill it at the end."""
    made = []

    def make(code):
        made.append(command_runner.WrappedCommand([sys.executable, "-c", code], "http://here", "sb_key"))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def ended(one):
    waiting.wait_until(lambda: one.exit_code() is not None)
    return one.exit_code()


def test_a_command_gets_the_url_of_the_server(run_command):
    code = "import os; raise SystemExit(os.environ['SORTBELT_URL'] + os.environ['SORTBELT_KEY'] != 'http://heresb_key')"

    assert ended(run_command(code)) == 0


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
        command_runner.WrappedCommand(["no-such-command"], "http://here", "sb_key")
    assert "SORTBELT_URL" not in os.environ
