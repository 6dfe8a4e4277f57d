"""Workers killed, frozen and stopped at the worst moment."""

import contextlib
import signal
import time

import psutil
import pytest
import redis


@pytest.mark.parametrize("lease_seconds", [3, 600])
def test_a_worker_killed_in_the_middle_of_a_batch(stack_per_database, lease_seconds):
    """Row 1: between claim and commit; another worker finishes at the second attempt, with one result per image.

    It does not wait for the leases: it sees that the process is dead.
    """
    stack = stack_per_database
    stack.settings |= {"lease_seconds": lease_seconds}
    stack.submit(60)
    stack.start_worker(f"dies_after_claim:{stack.folder}/once").wait_for_exit()
    assert stack.running_count() > 0
    claimed = stack.running_count()
    started = time.monotonic()
    stack.start_workers(1)
    stack.wait_until_settled(45)
    print(f"{claimed} images of a killed worker were done {time.monotonic() - started:.1f} s later")
    assert sorted(set(stack.attempts().values())) == [1, 2]


def test_a_running_worker_takes_over_from_one_that_is_killed(stack):
    """Row 1: it looks for dead ones between its heartbeats."""
    stack.settings |= {"lease_seconds": 600}
    (heir,) = stack.start_workers(1)
    (victim,) = stack.start_workers(1, fault="slow:30")
    stack.freeze(heir)
    stack.submit(60)
    stack.wait_until(stack.running_count, 20, "it has claimed")
    victim.kill()
    assert stack.running_count() > 0
    heir.signal(signal.SIGCONT)
    stack.wait_until_settled(45)


def test_a_worker_killed_inside_the_transaction(stack_per_database):
    """Row 1: before its transaction commits; none of it is visible, and everything is done once."""
    stack = stack_per_database
    stack.submit(40)
    stack.start_worker(f"dies_before_commit:{stack.folder}/once").wait_for_exit()
    assert stack.finished_count() == 0
    stack.start_workers(1)
    stack.wait_until_settled(45)


def test_a_worker_killed_after_the_commit(stack_per_database):
    """Row 2: what it has committed stays, and is not done again after another wake-up."""
    stack = stack_per_database
    stack.start_redis()
    stack.submit(40)
    stack.start_worker(f"dies_after_commit:{stack.folder}/once").wait_for_exit()
    written = stack.results_by_name()
    assert written
    stack.start_workers(1)
    stack.wait_until_settled(45)
    assert written.items() <= stack.results_by_name().items()


def test_a_worker_killed_with_a_wakeup_it_has_not_handled(stack):
    """Row 3: frozen, sent a wake-up, killed: the message is lost, and another worker's idle poll finds the job."""
    stack.start_redis()
    stack.start_api()
    (frozen,) = stack.start_workers(1, idle_poll_seconds=600)
    stack.freeze(frozen)
    with stack.client() as client:
        assert stack.post(client, stack.new_files(4)).status_code == 202
    with redis.Redis(port=stack.redis_port) as broker:
        stack.wait_until(lambda: "cmdstat_lpush" in broker.info("commandstats"), 15, "the wake-up is sent")
    frozen.kill()
    stack.start_workers(1)
    stack.wait_until_settled(10)


def kill_a_decoder(worker):
    """Kill a decoder that is not dead already; return whether there was one."""
    for child in reversed(worker.process_tree()[1:]):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                child.kill()
                return True
    return False


def test_decoders_killed_fifty_times(stack):
    """Row 4: each death costs one retry at most; the worker goes on, and nothing leaks."""
    stack.settings |= {"decoder_processes": 2}
    (worker,) = stack.start_workers(1)
    before = worker.process_tree()[0].num_fds()
    stack.submit(600)
    for _ in range(50):
        if not stack.running_count():
            stack.submit(64)
        stack.wait_until(lambda: kill_a_decoder(worker), 15, "a decoder to be killed")
    stack.wait_until_settled(60)
    assert worker.is_alive
    # Fifty decoders would leak fifty; without Redis, some of kombu's pollers wait for the garbage collector.
    assert worker.process_tree()[0].num_fds() <= before + 20
    assert set(stack.attempts().values()) == {1}


def test_a_worker_frozen_beyond_its_lease_and_thawed(stack_per_database):
    """Row 5: another worker has finished meanwhile; what the thawed one writes is fenced out and logged."""
    stack = stack_per_database
    stack.submit(16)
    (zombie,) = stack.start_workers(1, fault="slow:0.5")
    stack.wait_until(stack.running_count, 10, "it has claimed")
    stack.freeze(zombie)
    heir = stack.start_worker()
    stack.wait_until_settled(30)
    before = stack.results_by_name()
    heir.kill()
    zombie.signal(signal.SIGCONT)
    stack.wait_until(lambda: "too late" in zombie.read_log(), 15, "the late results are logged")
    assert stack.results_by_name() == before
    stack.wait_until_settled()
    assert zombie.is_alive


@pytest.mark.parametrize("second_signal", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_stop_signal_ends_a_worker_at_once(stack, second_signal):
    """Row 33: in the middle of a batch; its images are requeued when their leases end."""
    stack.submit(16)
    (worker,) = stack.start_workers(1, fault="slow:30")
    stack.wait_until(lambda: "a slow batch begins" in worker.read_log(), 20, "it classifies")
    worker.signal(signal.SIGTERM)
    time.sleep(0.5)
    assert worker.is_alive
    worker.signal(second_signal)
    assert worker.wait_for_exit(5) != 0
    stack.start_workers(1)
    stack.wait_until_settled(30)
