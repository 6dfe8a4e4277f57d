import time

from worker import progress


def test_a_run_is_stalled_when_neither_a_step_nor_a_decode_was_recent():
    decoded_at = [0.0]
    monitor = progress.RunMonitor(lambda: decoded_at[0])
    assert not monitor.is_stalled(0)
    monitor.record_progress()
    time.sleep(0.02)
    assert monitor.is_stalled(0.01)
    assert not monitor.is_stalled(60)
    decoded_at[0] = time.monotonic()
    assert not monitor.is_stalled(0.01)


def test_an_ended_run_is_idle_and_not_stalled():
    monitor = progress.RunMonitor(lambda: 0.0)
    monitor.record_progress()
    monitor.record_end()
    time.sleep(0.02)
    assert not monitor.is_stalled(0.01)
    assert monitor.seconds_since_end() >= 0.02


def test_finished_images_are_counted_until_they_are_taken():
    counter = progress.FinishedCounter()
    counter.add(3)
    counter.add(4)
    assert [counter.take(), counter.take()] == [7, 0]
