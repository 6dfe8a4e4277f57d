"""The CPU probe times a fixed loop while something else is measured."""

import contextlib
import math
import time

from benchmarks import cpu_probe


def test_it_measures_while_it_is_open():
    """It times the loop at intervals, and its process ends on exit."""
    with cpu_probe.CpuProbe() as probe:
        time.sleep(3 * cpu_probe.INTERVAL_SECONDS)

    assert probe.milliseconds
    assert min(probe.milliseconds) > 0
    assert probe._process.poll() is not None


def test_without_measurements_the_median_is_nan():
    """A measurement may fail before the loop has run once."""
    assert math.isnan(cpu_probe.CpuProbe().median)


def test_its_process_ends_when_the_block_raises():
    """A run continues after a failed measurement, and no process is left behind."""
    probe = cpu_probe.CpuProbe()

    with contextlib.suppress(ZeroDivisionError), probe:
        1 / 0  # noqa: B018

    assert probe._process.poll() is not None
