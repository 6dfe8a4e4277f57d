"""One folder, and everything that has to do with it killed on the way: what the bench does with 100,000 pictures."""

from bench import killed

SOON = {"batch_size": 16, "lease_seconds": 2, "idle_ring_seconds": 0.5}


def test_enqueuer_api_and_worker_are_killed_and_every_picture_is_done_once(tmp_path):
    """Kill -9 of each in the middle of the sending: one job, one result for each picture, no bytes sent in vain."""
    outcome = killed.measure(480, tmp_path / "pictures", **SOON)

    assert list(outcome.faults()) == []
    assert list(outcome.killed) == ["enqueuer", "api", "worker"]
    assert [run.code for run in outcome.runs] == [-9, 0]
    assert outcome.names.total() == outcome.rows[0] == 480
