import json

import pytest

from sortbelt.cli import progress
from sortbelt.client import responses
from sortbelt.client.sync_client import Client
from tests.support import fake_api


@pytest.fixture
def fake_source(server):
    """A source of the fake server, with good images and a bad one."""
    server.sources = {
        "camera": {"2026/a.jpg": b"1", "2026/broken.jpg": b"2", "2025/b.jpg": b"3"},
        "s3://photos/x": {"c.jpg": b"4"},
    }


def test_images_on_the_server_are_classified_without_being_sent(server, run_cli, fake_source, tmp_path):
    """The same summary as for a folder, and the last line in JSON has the job and its counts."""
    done = run_cli("enqueue", "--on-server", "camera/2026", "--json", "--failures", tmp_path / "failed.csv")
    last = json.loads(done.out.splitlines()[-1])
    assert done.code == 1
    assert (last["counts"]["total"], last["counts"]["done"], last["labels"]) == (2, 1, {"sushi": 1})
    assert last["failures"] == [{"image": "2026/broken.jpg", "code": "undecodable", "detail": "Not an image."}]
    assert last["scan"]["found"] == 2
    assert last["job_id"] in server.jobs
    assert server.upload_counts == {}
    assert (tmp_path / "failed.csv").read_text().splitlines()[1].startswith("2026/broken.jpg,undecodable")


def test_a_bucket_is_named_by_its_address(run_cli, fake_source):
    done = run_cli("enqueue", "s3://photos/x")
    assert done.code == 0, done.err
    assert "sushi" in done.out
    assert "sortbelt results" in done.err


def test_what_is_not_on_the_list_leaves_no_open_job(server, run_cli, fake_source):
    done = run_cli("enqueue", "s3://other")
    assert done.code == 2
    assert "list" in done.err
    assert [job["cancelled"] for job in server.jobs.values()] == [True]


@pytest.mark.parametrize(
    "words",
    [
        (),
        (".", "--on-server", "camera"),
        ("--on-server", "camera", "--watch"),
        ("s3://photos/x", "--dry-run"),
        ("s3://photos/x", "--manifest", "m"),
    ],
)
def test_what_does_not_go_together_is_refused(server, run_cli, words):
    assert run_cli("enqueue", *words).code == 2
    assert server.requests == []


def test_sources_are_listed(run_cli, fake_source, server):
    assert "camera" in run_cli("sources").out
    assert json.loads(run_cli("sources", "--json").out)["sources"][0] == {"name": "camera", "address": None}
    server.sources = {}
    assert "SORTBELT_SOURCES" in run_cli("sources").err


def test_a_client_has_a_job_filled(server, fake_source):
    with Client(server.url, fake_api.KEY) as client:
        job = client.scan(client.open_job().id, "camera", "2025").wait()
        assert [source.name for source in client.sources()] == ["camera", "s3://photos/x"]
    assert job.scan == responses.Scan("camera", "2025", "done", 1, 0, None)
    assert job.all_well


def test_a_job_of_which_not_everything_was_found_is_not_well():
    counts = {"total": 1, "done": 1}
    scan = {"source": "x", "prefix": "", "status": "failed", "found": 1, "skipped": 0, "error": "No folder."}
    job = responses.Job.from_json({"id": "1", "status": "done", "counts": counts, "scan": scan})
    assert not job.all_well


def test_progress_shows_the_number_of_images_found_so_far():
    scan = {"source": "x", "prefix": "", "status": "pending", "found": 7, "skipped": 0, "error": "The queue is full."}
    job = responses.Job.from_json(
        {"id": "1", "status": "running", "counts": {"total": 7, "done": 2, "queued": 5}, "scan": scan}
    )
    line = progress.format_line(job, progress.RateMeter(), None, None)
    assert line.startswith("7 found so far, The queue is full., 2/7 classified")
