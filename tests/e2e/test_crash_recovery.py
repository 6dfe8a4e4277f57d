"""The crash recovery benchmark with 480 images instead of 100,000."""

from benchmarks import crash_recovery

SHORT_INTERVALS = {"batch_size": 16, "lease_seconds": 2, "idle_poll_seconds": 0.5}


def test_every_image_is_classified_once_although_enqueuer_api_and_worker_are_killed(tmp_path):
    """SIGKILL each during the upload: one job, one result per image, no needless uploads."""
    outcome = crash_recovery.measure(480, tmp_path / "images", **SHORT_INTERVALS)

    assert list(outcome.failures()) == []
    assert list(outcome.killed_at) == ["enqueuer", "api", "worker"]
    assert [run.exit_code for run in outcome.runs] == [-9, 0]
    assert outcome.result_counts.total() == outcome.row_counts[0] == 480
