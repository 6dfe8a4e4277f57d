"""The first signal sets a flag; the second one has its default effect."""

import signal

import pytest

from model.training import graceful_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_flag(number):
    handler = signal.getsignal(number)
    with graceful_stop.catch_signals() as stop_flag:
        assert not stop_flag()
        signal.raise_signal(number)
        assert stop_flag()
        assert stop_flag.exit_code == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL

    assert signal.getsignal(number) == handler
