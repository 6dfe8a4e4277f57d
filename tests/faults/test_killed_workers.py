"""Workers that are killed, frozen and stopped at the worst moment."""

import contextlib
import signal
import time

import psutil
import pytest


def test_a_worker_killed_in_the_middle_of_a_batch(either):
    """Row 1: between claim and commit, the whole group; another finishes at the second attempt, one result each."""
    stack = either
    stack.submit(60)
    stack.start_worker(f"dies_after_claim:{stack.folder}/once").ended()
    assert stack.running() > 0
    held = stack.running()
    started = time.monotonic()
    stack.start_workers(1)
    stack.settle(45)
    print(f"{held} images of a killed worker were done {time.monotonic() - started:.1f} s later")
    assert sorted(set(stack.attempts().values())) == [1, 2]


def test_a_worker_killed_inside_the_transaction(either):
    """Row 1, the other end: before the commit comes through; nothing of it is seen, and all is done once."""
    stack = either
    stack.submit(40)
    stack.start_worker(f"dies_before_commit:{stack.folder}/once").ended()
    assert stack.done() == 0
    stack.start_workers(1)
    stack.settle(45)


def test_a_worker_killed_after_the_commit(either):
    """Row 2: what it has written stays, and who hears the bell again finds nothing of it."""
    stack = either
    stack.start_redis()
    stack.submit(40)
    stack.start_worker(f"dies_after_commit:{stack.folder}/once").ended()
    written = stack.results()
    assert written
    stack.start_workers(1)
    stack.settle(45)
    assert written.items() <= stack.results().items()


def test_a_frozen_worker_killed_with_the_bell_in_its_hands(stack):
    """Row 3: stopped while it waits for Redis, rung, killed: the message is gone, the job is done by who looks."""
    stack.start_redis()
    stack.start_api()
    (frozen,) = stack.start_workers(1, idle_ring_seconds=600)
    stack.freeze(frozen)
    with stack.client() as client:
        assert stack.post(client, stack.files(4)).status_code == 202
    time.sleep(0.5)
    frozen.kill()
    stack.start_workers(1)
    stack.settle(10)


def kill_a_decoder(worker):
    """Kill one that is not dead already; whether there was one."""
    for child in reversed(worker.family()[1:]):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                child.kill()
                return True
    return False


def test_decoders_killed_fifty_times(stack):
    """Row 4: each costs a second try at most; the worker goes on, and nothing leaks."""
    stack.settings |= {"decoders": 2}
    (worker,) = stack.start_workers(1)
    before = worker.family()[0].num_fds()
    stack.submit(600)
    for _ in range(50):
        if not stack.running():
            stack.submit(64)
        stack.until(lambda: kill_a_decoder(worker), 15, "a decoder to be killed")
    stack.settle(60)
    assert worker.alive
    # Fifty decoders would leave fifty; without Redis, some pollers of kombu's wait for the garbage collector.
    assert worker.family()[0].num_fds() <= before + 20
    assert set(stack.attempts().values()) == {1}


def test_a_worker_frozen_beyond_its_lease_and_thawed(either):
    """Row 5: another has finished meanwhile; what the thawed one writes is fenced out, and it says so."""
    stack = either
    stack.submit(16)
    (zombie,) = stack.start_workers(1, fault="slow:0.5")
    stack.until(stack.running, 10, "it has claimed")
    stack.freeze(zombie)
    heir = stack.start_worker()
    stack.settle(30)
    before = stack.results()
    heir.kill()
    zombie.signal(signal.SIGCONT)
    stack.until(lambda: "too late" in zombie.said(), 15, "it says that it came too late")
    assert stack.results() == before
    stack.settle()
    assert zombie.alive


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_order_to_stop_is_obeyed_at_once(stack, second):
    """Row 33: in the middle of a batch; the leases do the rest."""
    stack.submit(16)
    (worker,) = stack.start_workers(1, fault="slow:30")
    stack.until(stack.running, 10, "it has claimed")
    worker.signal(signal.SIGTERM)
    time.sleep(0.5)
    assert worker.alive
    worker.signal(second)
    assert worker.ended(5) != 0
    stack.start_workers(1)
    stack.settle(30)
