"""The yardstick: a fixed loop, timed while something is measured."""

import contextlib
import math
import time

from bench import yardstick


def test_it_measures_for_as_long_as_it_is_open():
    """Now and then, and its process ends with it."""
    with yardstick.Yardstick() as machine:
        time.sleep(3 * yardstick.EVERY_SECONDS)

    assert machine.milliseconds
    assert min(machine.milliseconds) > 0
    assert machine._process.poll() is not None


def test_what_was_never_open_has_no_median():
    """A part may break before the loop has run once."""
    assert math.isnan(yardstick.Yardstick().median)


def test_it_ends_also_when_what_was_measured_breaks():
    """A run goes on after a part that broke, and nothing is left behind."""
    machine = yardstick.Yardstick()

    with contextlib.suppress(ZeroDivisionError), machine:
        1 / 0  # noqa: B018

    assert machine._process.poll() is not None
