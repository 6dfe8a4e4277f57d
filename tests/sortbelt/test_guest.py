import os
import signal
import sys
import time

import pytest

from sortbelt import errors, guest


@pytest.fixture
def visit():
    """Makes guests of Python code, and turns them out in the end."""
    made = []

    def make(code):
        made.append(guest.Guest([sys.executable, "-c", code], "http://here", "sb_key"))
        return made[-1]

    yield make
    for one in made:
        one.turn_out()


def ended(one, seconds=10):
    deadline = time.monotonic() + seconds
    while one.exit_code() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return one.exit_code()


def test_a_guest_is_told_where_the_server_is(visit):
    code = "import os; raise SystemExit(os.environ['SORTBELT_URL'] + os.environ['SORTBELT_KEY'] != 'http://heresb_key')"

    assert ended(visit(code)) == 0


def test_its_exit_code_is_told_as_a_shell_would(visit):
    assert ended(visit("raise SystemExit(7)")) == 7
    assert ended(visit(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")) == 137


def test_a_guest_is_asked_to_leave(visit):
    one = visit("import time; time.sleep(60)")

    one.leave(interrupted=False, hurry=False)

    assert ended(one) == 128 + signal.SIGTERM


def test_a_guest_that_heard_ctrl_c_may_say_its_last_words(visit, monkeypatch):
    one = visit("import time; time.sleep(60)")

    one.leave(interrupted=True, hurry=False)
    time.sleep(0.2)
    assert one.exit_code() is None
    monkeypatch.setattr(guest, "INTERRUPT_SECONDS", 0.1)
    one.leave(interrupted=True, hurry=False)

    assert ended(one) == 128 + signal.SIGTERM


def test_a_command_that_does_not_exist_is_said():
    with pytest.raises(errors.BadInput, match="no-such-command cannot be run"):
        guest.Guest(["no-such-command"], "http://here", "sb_key")
    assert "SORTBELT_URL" not in os.environ
