import dataclasses
import threading
from datetime import UTC, datetime

from core.db.queries import claims as claim_queries
from worker import lease_table


def claim(image_id, attempt=1):
    return claim_queries.Claim(image_id, "job", f"{image_id}.jpg", "0" * 64, attempt, "me", datetime.now(UTC))


def test_it_holds_claims_until_they_are_removed():
    table = lease_table.LeaseTable()
    first, second = claim(1), claim(2)
    table.add([first, second])
    assert table.snapshot() == [first, second]
    table.remove([first, claim(3)])
    assert table.snapshot() == [second]


def test_an_update_replaces_the_fence_and_adds_nothing():
    """A claim that was settled meanwhile does not come back."""
    table = lease_table.LeaseTable()
    held = claim(1)
    table.add([held])
    started = dataclasses.replace(held, attempt=2)
    table.update([started, claim(2, attempt=2)])
    assert table.snapshot() == [started]


def test_a_snapshot_can_be_taken_while_other_threads_change_it():
    """The heartbeat reads it while the pipeline claims and commits."""
    table = lease_table.LeaseTable()
    stop = threading.Event()

    def change(start):
        while not stop.is_set():
            claims = [claim(start + n) for n in range(200)]
            table.add(claims)
            table.remove(claims)

    threads = [threading.Thread(target=change, args=(start,)) for start in (0, 1000)]
    for thread in threads:
        thread.start()
    for _ in range(500):
        table.snapshot()
    stop.set()
    for thread in threads:
        thread.join()
    assert table.snapshot() == []
