"""The signals that stop `sortbelt up`."""

import signal

import pytest

from sortbelt.cli.commands import up


@pytest.mark.parametrize(("before", "is_handled"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_closed_terminal_stops_it_unless_that_is_ignored(before, is_handled):
    """As `nohup` does; the handler of before is back at the end."""
    own = signal.signal(signal.SIGHUP, before)
    try:
        with up._handle_stop_signals() as stop_signals:
            assert (signal.getsignal(signal.SIGHUP) is stop_signals) == is_handled
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, own)
