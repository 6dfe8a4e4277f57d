"""A wish to stop is heard; the second one ends the process as ever."""

import signal

import pytest

from model import stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish(number):
    before = signal.getsignal(number)
    with stopping.listening() as wish:
        assert not wish()
        signal.raise_signal(number)
        assert wish()
        assert wish.code == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL

    assert signal.getsignal(number) == before
