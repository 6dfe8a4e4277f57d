import pytest

from tests.support import modules
from worker import progress


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the monitor, as a list with one number."""
    return modules.set_clock(monkeypatch, progress)


def test_a_run_is_stalled_when_neither_a_step_nor_a_decode_was_recent(clock):
    decoded_at = [0.0]
    monitor = progress.RunMonitor(lambda: decoded_at[0])
    assert not monitor.is_stalled(0)
    monitor.record_progress()
    clock[0] += 20
    assert monitor.is_stalled(10)
    assert not monitor.is_stalled(60)
    decoded_at[0] = clock[0]
    assert not monitor.is_stalled(10)


def test_an_ended_run_is_idle_and_not_stalled(clock):
    monitor = progress.RunMonitor(lambda: 0.0)
    monitor.record_progress()
    monitor.record_end()
    clock[0] += 20
    assert not monitor.is_stalled(10)
    assert monitor.seconds_since_end() == 20


def test_finished_images_are_counted_until_they_are_taken():
    counter = progress.FinishedCounter()
    counter.add(3)
    counter.add(4)
    assert [counter.take(), counter.take()] == [7, 0]
