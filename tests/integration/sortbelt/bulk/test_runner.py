"""Folder runs, through the command and through the object."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sortbelt import errors
from sortbelt.bulk import change_detection, run_manifest, runner, walker
from sortbelt.cli import progress
from sortbelt.client import image_files
from sortbelt.client.sync_client import Client
from tests.support import fake_api


@pytest.fixture
def image_dir(tmp_path):
    """A folder of images, of which the fake finds one broken."""
    root = tmp_path / "photos"
    for number in range(100):
        path = root / str(number % 3) / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    (root / "broken.png").write_bytes(b"")
    (root / "notes.txt").write_text("not an image")
    (root / "link.jpg").symlink_to(root / "broken.png")
    return root


@contextlib.contextmanager
def folder_run(client, root, wishes=None, file=None):
    """A run of this process."""
    book = run_manifest.RunManifest(file or root.parent / "book.sqlite", str(root))
    with contextlib.closing(book):
        run = runner.BulkRun(client, walker.DirectoryWalker(str(root)), book, wishes)
        run.prepare()
        yield run


def test_a_run_waits_while_the_queue_is_full_and_reports_it(run_cli, server, image_dir, monkeypatch):
    """A full queue and a key that has used up its minute cost time, and no image."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    (image_dir / "broken.png").unlink()
    server.faults = [None, None, None, (503, {"Retry-After": "1.1"}), (429, {"Retry-After": "1"})]

    run = run_cli("enqueue", image_dir, "--json")

    assert run.code == 0
    assert report(run)["not_sent"] == 0
    assert report(run)["counts"]["done"] == 100
    assert "Waiting 1 s" in run.err


def test_a_key_with_few_open_images_sends_smaller_batches(run_cli, server, image_dir):
    """By their bytes, and by reference where the server has them already."""
    (image_dir / "broken.png").unlink()
    server.max_images = 3

    for _ in range(2):
        run = run_cli("enqueue", image_dir, "--json", "--fresh")
        assert (run.code, report(run)["not_sent"], report(run)["counts"]["done"]) == (0, 0, 100)
    assert report(run)["by_reference"] == 100
    assert set(server.upload_counts.values()) == {1}


def report(run):
    return json.loads(run.out.splitlines()[-1])


def test_a_folder_is_one_job_with_every_image_in_it_once(run_cli, server, image_dir):
    run = run_cli("enqueue", image_dir, "--json")

    (job,) = server.jobs
    assert run.code == 1
    assert report(run)["job_id"] == job
    assert report(run)["status"] == "done"
    counts = report(run)["counts"]
    assert (counts["total"], counts["done"], counts["failed"]) == (101, 100, 1)
    assert report(run)["labels"] == {"sushi": 100}
    assert report(run)["skipped"] == {"not an image": 1, "symbolic link": 1}
    assert report(run)["failures"] == [{"image": "broken.png", "code": "undecodable", "detail": "Not an image."}]
    assert sorted(server.jobs[job]["images"])[:2] == ["0/000.jpg", "0/003.jpg"]


def test_the_summary_has_labels_and_reasons(run_cli, image_dir):
    run = run_cli("enqueue", image_dir)

    assert run.out == "sushi\t100\n"
    assert "failed: broken.png: Not an image. (undecodable)" in run.err
    assert "Skipped: 1 symbolic link, 1 not an image." in run.err
    assert "101/101 sent, 101/101 classified, 1 failed" in run.err


def test_all_well_is_exit_code_0(run_cli, image_dir):
    assert run_cli("enqueue", image_dir, "--exclude", "broken*").code == 0
    assert run_cli("enqueue", image_dir, "--include", "*.jpg").code == 0


def test_without_waiting_the_job_is_left_to_itself(run_cli, server, image_dir):
    server.polls_until_done = 10_000

    run = run_cli("enqueue", image_dir, "--no-wait", "--json")

    assert run.code == 0
    assert report(run)["status"] == "queued"


@pytest.mark.parametrize("name", ["none", "empty", "texts", "photos/broken.png"])
def test_a_folder_without_images_makes_no_job(run_cli, server, image_dir, name):
    (image_dir.parent / "empty").mkdir()
    (image_dir.parent / "texts").mkdir()
    (image_dir.parent / "texts" / "a.txt").touch()

    run = run_cli("enqueue", image_dir.parent / name)

    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert not server.jobs


def test_the_same_command_again_sends_nothing_and_shows_the_same_job(run_cli, server, image_dir):
    first = run_cli("enqueue", image_dir, "--json")
    again = run_cli("enqueue", image_dir, "--json")

    assert report(again)["job_id"] == report(first)["job_id"]
    assert (report(again)["sent"], report(again)["unchanged"]) == (0, 101)
    assert report(again)["labels"] == {"sushi": 100}
    assert again.code == 1
    assert set(server.upload_counts.values()) == {1}
    assert "Nothing is new since job" in run_cli("enqueue", image_dir).err


def test_what_is_new_or_changed_goes_into_a_new_job_and_what_was_only_touched_does_not(run_cli, server, image_dir):
    first = report(run_cli("enqueue", image_dir, "--json"))["job_id"]
    (image_dir / "new.jpg").write_bytes(b"new")
    (image_dir / "0" / "000.jpg").write_bytes(b"other")
    os.utime(image_dir / "1" / "001.jpg", ns=(1, 1))

    again = report(run_cli("enqueue", image_dir, "--json"))

    assert again["job_id"] != first
    assert set(server.jobs[again["job_id"]]["images"]) == {"new.jpg", "0/000.jpg"}
    assert report(run_cli("enqueue", image_dir, "--json"))["sent"] == 0


def test_bytes_that_the_server_has_are_not_sent_again(run_cli, server, image_dir):
    run_cli("enqueue", image_dir)
    server.upload_counts.clear()
    (image_dir / "copy.jpg").write_bytes((image_dir / "0" / "000.jpg").read_bytes())

    fresh = report(run_cli("enqueue", image_dir, "--fresh", "--json"))

    assert (fresh["sent"], fresh["by_reference"], fresh["counts"]["total"]) == (102, 102, 102)
    assert not server.upload_counts


@pytest.mark.parametrize("problem_fields", [{"pointer", "code", "detail", "image"}, {"pointer", "code"}, {"image"}])
def test_only_blobs_purged_meanwhile_are_uploaded_again(server, image_dir, client, problem_fields):
    """Whether the server names the images, or points at their entries."""
    server.problem_fields = problem_fields
    with folder_run(client, image_dir, file=image_dir.parent / "a.sqlite") as run:
        run.send()
    real = client.known_blobs

    def forgetful(digests):
        known = real(digests)
        for digest in sorted(known)[:5]:
            server.blobs.pop(digest)
        return known

    client.known_blobs = forgetful
    with folder_run(client, image_dir, file=image_dir.parent / "b.sqlite") as run:
        run.send()

    assert (run.stats.sent, run.job.counts.total) == (101, 101)
    assert sorted(server.upload_counts.values()) == [1] * 96 + [2] * 5


def test_a_purged_blob_of_a_server_that_does_not_say_which_costs_its_batch(server, image_dir, client):
    server.problem_fields = set()
    with folder_run(client, image_dir, file=image_dir.parent / "a.sqlite") as run:
        run.send()
    real = client.known_blobs
    client.known_blobs = lambda digests: (known := real(digests), server.blobs.pop(min(known)))[0]
    with folder_run(client, image_dir, file=image_dir.parent / "b.sqlite") as run:
        run.send()

    assert (run.stats.sent, run.job.counts.total) == (101, 101)
    assert sorted(server.upload_counts.values()) == [2] * 101


def test_a_server_that_cannot_be_asked_gets_everything(run_cli, server, image_dir):
    server.is_legacy = True

    assert report(run_cli("enqueue", image_dir, "--json"))["counts"]["total"] == 101
    assert sum(path == "/v1/blobs/check" for _, path, _ in server.requests) <= runner.HASH_THREADS


def test_an_image_that_changes_while_its_job_is_open_is_reported(server, image_dir, client):
    with folder_run(client, image_dir) as run:
        run.send()
    (image_dir / "0" / "000.jpg").write_bytes(b"other")

    with folder_run(client, image_dir) as run:
        run.send()
        run.seal()
        changed = run.stats.changed
    with folder_run(client, image_dir) as run:
        run.send()

    assert changed == 1
    assert list(server.jobs[run.job.id]["images"]) == ["0/000.jpg"]
    assert len(server.jobs) == 2


@pytest.mark.parametrize(("max_kept", "changed"), [(0, 0), (1_000_000, 1)])
def test_an_image_that_changes_between_the_first_look_and_its_upload_is_known_as_it_was_sent(
    client, image_dir, monkeypatch, max_kept, changed
):
    """A small one is sent as it was read first; a large one is read again."""
    monkeypatch.setattr(change_detection, "MAX_KEPT_BYTES", max_kept)
    real = client.known_blobs

    def meanwhile(digests):
        (image_dir / "0" / "000.jpg").write_bytes(b"other bytes")
        client.known_blobs = real
        return real(digests)

    client.known_blobs = meanwhile
    with folder_run(client, image_dir) as run:
        run.send()
    with folder_run(client, image_dir) as run:
        run.send()

    assert (run.stats.sent, run.stats.changed) == (0, changed)


def test_what_failed_is_sent_again_on_request_and_only_that(run_cli, server, image_dir):
    run_cli("enqueue", image_dir)
    assert "broken.png" in run_cli("enqueue", image_dir).err

    again = report(run_cli("enqueue", image_dir, "--retry-failed", "--json"))

    assert list(server.jobs[again["job_id"]]["images"]) == ["broken.png"]
    assert again["counts"]["failed"] == 1
    (image_dir / "broken.png").unlink()
    assert report(run_cli("enqueue", image_dir, "--retry-failed", "--json"))["sent"] == 0


def test_failures_of_a_job_without_wait_can_be_retried_once_it_has_ended(run_cli, server, image_dir):
    server.polls_until_done = 10_000
    run_cli("enqueue", image_dir, "--no-wait")
    too_soon = run_cli("enqueue", image_dir, "--retry-failed")
    server.polls_until_done = 1

    again = report(run_cli("enqueue", image_dir, "--retry-failed", "--json"))

    assert too_soon.code == 2
    assert "has not ended" in too_soon.err
    assert again["sent"] == 1


def test_failures_are_written_as_csv_or_ndjson(run_cli, image_dir, tmp_path):
    run_cli("enqueue", image_dir, "--failures", tmp_path / "failed.csv")
    run_cli("enqueue", image_dir, "--failures", tmp_path / "failed.ndjson")

    assert (tmp_path / "failed.csv").read_text().splitlines()[1] == "broken.png,undecodable,Not an image."
    assert json.loads((tmp_path / "failed.ndjson").read_text())["code"] == "undecodable"


def test_a_file_that_is_edited_between_a_kill_and_the_rerun_is_classified_anew(server, image_dir, run_cli):
    """The server had accepted the old bytes, and the killed run could not record it."""
    real, edited = server.add_images, []

    def add_and_kill(job, images):
        real(job, images)
        if images:  # else the job is being opened
            edited.append(images[0][0])
            run.kill()

    server.add_images = add_and_kill
    with started(server, image_dir) as run:
        run.communicate()
    server.add_images = real
    (image_dir / edited[0]).write_bytes(b"edited")

    reports = [report(run_cli("enqueue", image_dir, "--json")) for _ in range(2)]

    first_job, second_job = server.jobs.values()
    assert run.returncode == -signal.SIGKILL
    assert [(report["counts"]["total"], report["changed"]) for report in reports] == [(102, 0)] * 2
    assert [report["labels"] for report in reports] == [{"sushi": 100}] * 2
    assert reports[1]["sent"] == 0
    assert len(first_job["images"]) == 101
    assert second_job["images"] == {edited[0]: b"edited"}
    assert set(server.upload_counts.values()) == {1, 2}


def test_a_file_that_was_sent_and_cannot_be_read_meanwhile_is_classified_anew(server, image_dir, client, monkeypatch):
    """The open job still has its old bytes under this name."""
    path = image_dir / "0" / "000.jpg"
    with folder_run(client, image_dir) as run:
        run.send()
    path.write_bytes(b"edited, and too large")
    monkeypatch.setattr(image_files, "MAX_IMAGE_BYTES", 9)
    with folder_run(client, image_dir) as run:
        run.send()
        assert (run.stats.not_sent, run.stats.sent) == (1, 0)
    monkeypatch.undo()

    with folder_run(client, image_dir) as run:
        run.send()
        assert (run.stats.changed, run.stats.sent) == (1, 0)
        run.seal()
    with folder_run(client, image_dir) as run:
        run.send()

    assert [len(job["images"]) for job in server.jobs.values()] == [101, 1]


def test_a_manifest_of_the_version_before_is_used(run_cli, server, image_dir, tmp_path):
    """It has no table of what is being sent."""
    run_cli("enqueue", image_dir, "--manifest", tmp_path / "book.sqlite")
    with contextlib.closing(sqlite3.connect(tmp_path / "book.sqlite")) as conn:
        conn.execute("DROP TABLE uploads")
    (image_dir / "new.jpg").write_bytes(b"new")

    run = run_cli("enqueue", image_dir, "--json", "--manifest", tmp_path / "book.sqlite")

    assert (report(run)["sent"], report(run)["unchanged"]) == (1, 101)


def test_too_many_failures_stop_the_run_and_say_how_to_go_on(run_cli, server, image_dir):
    for number in range(100):
        (image_dir / f"broken{number}.jpg").write_bytes(b"")
    server.polls_until_done = 0

    run = run_cli("enqueue", image_dir, "--max-failure-rate", "0.3")

    assert run.code == 1
    assert "101 of 201 images failed, more than the 30% allowed. Job " in run.err
    assert " has ended: `sortbelt results " in run.err
    assert run_cli("enqueue", image_dir, "--fresh", "--max-failure-rate", "0.9", "--json").out


def test_a_retry_passes_an_earlier_job_that_was_deleted(run_cli, server, image_dir):
    """Its failures are not known any more."""
    first = report(run_cli("enqueue", image_dir, "--no-wait", "--json"))["job_id"]
    (image_dir / "new.jpg").write_bytes(b"new")
    second = report(run_cli("enqueue", image_dir, "--no-wait", "--json"))["job_id"]
    assert first != second
    assert run_cli("wait", second).code == 0
    run_cli("delete", first, "--yes")

    assert run_cli("enqueue", image_dir, "--retry-failed").code == 0


def test_failures_of_a_job_that_ended_before_do_not_stop_its_retry(run_cli, server, image_dir):
    """Only jobs that had not ended at the start count for the limit."""
    for number in range(100):
        (image_dir / f"broken{number}.jpg").write_bytes(b"%d" % number)
    assert run_cli("enqueue", image_dir).code == 1
    for number in range(100):
        (image_dir / f"broken{number}.jpg").rename(image_dir / f"mended{number}.jpg")

    run = run_cli("enqueue", image_dir, "--max-failure-rate", "0.05")

    assert run.code == 0, run.err


@pytest.mark.parametrize("options", [["--dry-run", "--fresh"], ["--job", "mistyped"]])
def test_earlier_runs_are_not_forgotten_by_a_plan_or_a_mistyped_job(run_cli, server, image_dir, options):
    """The manifest is cleared by a run that sends something, not by one that only shows it, or has an unknown job."""
    assert report(run_cli("enqueue", image_dir, "--json"))["sent"] == 101

    run = run_cli("enqueue", image_dir, "--json", *options)

    assert run.code == (0 if "--dry-run" in options else 2)
    assert report(run)["to_send"] == 101 if "--dry-run" in options else "mistyped" in run.err
    again = report(run_cli("enqueue", image_dir, "--json"))
    assert (again["sent"], again["unchanged"], len(server.jobs)) == (0, 101, 1)


def test_a_run_whose_records_lag_behind_counts_each_image_once(client, image_dir):
    """Images that the server accepted just before a crash are sent again, and not counted twice."""
    with folder_run(client, image_dir) as run:
        run.send()
    with contextlib.closing(run_manifest.RunManifest(image_dir.parent / "book.sqlite", str(image_dir))) as book:
        book.clear()
        book.add_job(run.job.id)

    with folder_run(client, image_dir) as run:
        run.send()
        assert run.stats.sent == 101
        assert run.submitted_count == run.expected_count == run.job.counts.total == 101


@pytest.mark.parametrize("size", [1, 15, 100, 5000])
def test_a_file_that_is_no_manifest_is_left_as_it_is(run_cli, image_dir, size):
    """Its access rights too; SQLite would take a short one for an empty database."""
    image = image_dir / "0" / "000.jpg"
    image.write_bytes(b"i" * size)
    image.chmod(0o644)

    run = run_cli("enqueue", image_dir, "--manifest", image)

    assert run.code == 2
    assert "cannot be used as a manifest" in run.err
    assert (image.read_bytes(), image.stat().st_mode & 0o777) == (b"i" * size, 0o644)


def test_another_database_is_left_as_it_is(run_cli, image_dir, tmp_path):
    """No tables are added to it."""
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as conn:
        conn.execute("CREATE TABLE addresses (name TEXT)")
        conn.commit()

    run = run_cli("enqueue", image_dir, "--manifest", other)

    assert run.code == 2
    assert "cannot be used as a manifest" in run.err
    with contextlib.closing(sqlite3.connect(other)) as conn:
        assert conn.execute("SELECT name FROM sqlite_schema").fetchall() == [("addresses",)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--idle", "3"], "--idle has no effect alone: add --watch."),
        (["--watch", "--dry-run"], "--dry-run shows one run, and --watch goes on: give one of them."),
        (["--failures", "none/failed.csv"], "none/failed.csv cannot be written: No such file or directory."),
    ],
)
def test_options_that_cannot_work_are_rejected_before_the_run(run_cli, server, image_dir, options, message):
    run = run_cli("enqueue", image_dir, *options)

    assert (run.code, len(server.jobs)) == (2, 0)
    assert message in run.err


def test_files_that_may_be_images_are_named_in_the_report(run_cli, image_dir):
    (image_dir / "a.rar").write_bytes(b"")
    (image_dir / "broken.png").unlink()
    left_out = [{"name": "a.rar", "reason": "archive of another format"}]

    assert report(run_cli("enqueue", image_dir, "--dry-run", "--json"))["left_out"] == left_out
    run = run_cli("enqueue", image_dir)
    assert (run.code, "Left out: a.rar (archive of another format)." in run.err) == (1, True)
    assert report(run_cli("enqueue", image_dir, "--json"))["left_out"] == left_out


def test_a_dry_run_asks_nothing_of_the_server_and_leaves_nothing(run_cli, server, image_dir):
    plan = report(run_cli("enqueue", image_dir, "--dry-run", "--json"))

    assert (plan["pictures"], plan["to_send"], plan["unchanged"], plan["job_id"]) == (101, 101, 0, None)
    assert not server.requests
    run_cli("enqueue", image_dir)
    assert report(run_cli("enqueue", image_dir, "--dry-run", "--json"))["to_send"] == 0
    assert run_cli("enqueue", image_dir, "--dry-run").out == "0 of 101 images would be sent (0 bytes).\n"


def test_a_job_that_is_gone_is_reported_with_what_to_do(run_cli, server, image_dir):
    run_cli("enqueue", image_dir)
    server.jobs.clear()

    run = run_cli("enqueue", image_dir)

    assert run.code == 2
    assert "is not on the server any more" in run.err
    assert "--fresh" in run.err
    assert report(run_cli("enqueue", image_dir, "--fresh", "--json"))["counts"]["total"] == 101


def test_a_job_that_was_cancelled_is_reported_and_what_it_left_can_be_taken_up(run_cli, server, image_dir):
    server.polls_until_done = 10_000
    job = report(run_cli("enqueue", image_dir, "--no-wait", "--json"))["job_id"]
    run_cli("cancel", job)
    server.polls_until_done = 1

    refused = run_cli("enqueue", image_dir)
    again = report(run_cli("enqueue", image_dir, "--retry-failed", "--json"))

    assert refused.code == 2
    assert "was cancelled: `sortbelt enqueue --retry-failed`" in refused.err
    assert again["counts"]["total"] == 101


def test_two_runs_on_one_folder_do_not_mix(run_cli, server, image_dir, client):
    path = run_manifest.default_path(server.url, fake_api.KEY, str(image_dir), None)
    path.parent.mkdir(parents=True)

    with folder_run(client, image_dir, file=path):
        run = run_cli("enqueue", image_dir)

    assert run.code == 2
    assert "Another run (pid" in run.err


def test_broken_connections_and_a_full_queue_on_the_way_lose_and_double_nothing(server, image_dir, client):
    server.faults = [None, "drop", (503, {"Retry-After": "0.1"}), "drop", (429, {"Retry-After": "0.1"}), None, 502]
    with folder_run(client, image_dir) as run:
        run.send()
        run.seal()
        run.wait_until_ended()

    (job,) = server.jobs.values()
    assert not server.faults
    assert (run.stats.sent, run.job.counts.total, len(job["images"])) == (101, 101, 101)


def test_an_image_too_big_for_the_server_costs_itself_only(run_cli, server, image_dir):
    (image_dir / "huge.jpg").write_bytes(bytes(20_000))
    server.max_body_bytes = 19_000

    run = run_cli("enqueue", image_dir, "--exclude", "broken*", "--json")

    assert run.code == 1
    assert report(run)["counts"]["done"] == 100
    assert report(run)["not_sent"] == 1
    assert [(one["image"], one["code"]) for one in report(run)["failures"]] == [("huge.jpg", "body_too_large")]


@pytest.mark.parametrize("when", ["before the first look", "between the looks"])
def test_an_image_that_cannot_be_read_costs_itself_only(server, image_dir, client, when, monkeypatch):
    monkeypatch.setattr(change_detection, "MAX_KEPT_BYTES", 0)
    gone = image_dir / "0" / "000.jpg"
    real, asked = client.known_blobs, threading.Event()

    def late(digests):
        if not asked.is_set():
            asked.set()
            gone.unlink()
        return real(digests)

    if when == "between the looks":
        client.known_blobs = late
    with folder_run(client, image_dir) as run:
        if when == "before the first look":
            gone.unlink()
            gone.symlink_to(image_dir / "1" / "001.jpg")
        run.send()
        failures = list(run.failures())

    assert run.stats.sent == 100
    assert [(f.name, f.code) for f in failures] == ([("0/000.jpg", "unreadable")] if asked.is_set() else [])


def test_several_uploads_are_under_way_at_once(server, image_dir, client):
    together = 0
    at_once = []
    reached = threading.Event()
    real = client.add_images

    def slow(*arguments):
        nonlocal together
        together += 1
        at_once.append(together)
        if together == runner.UPLOAD_THREADS:
            reached.set()
        reached.wait(60)
        time.sleep(0.1)
        together -= 1
        return real(*arguments)

    client.add_images = slow
    with folder_run(client, image_dir) as run:
        run.send()

    assert max(at_once) == runner.UPLOAD_THREADS


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(server, image_dir, run_cli):
    server.faults = [None, None, None] + [(503, {"Retry-After": "60"})] * 10
    with started(server, image_dir) as run:
        while len(server.requests) < 6:
            time.sleep(0.05)
        time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=100)[1]
    (job,) = server.jobs
    server.faults = []

    again = run_cli("enqueue", image_dir, "--json")

    assert run.returncode == 130
    assert f"Job {job} is open" in said.splitlines()[-1]
    assert "run the same command to go on" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert report(again)["counts"]["total"] == 101
    assert len(server.jobs) == 1
    assert set(server.upload_counts.values()) == {1}


def test_a_job_that_another_machine_left_open_is_gone_on_with(server, image_dir, client, run_cli, tmp_path):
    with folder_run(client, image_dir, file=tmp_path / "elsewhere.sqlite") as run:
        run.send()

    again = report(run_cli("enqueue", image_dir, "--job", run.job.id, "--json"))

    assert (again["job_id"], again["counts"]["total"]) == (run.job.id, 101)
    assert set(server.upload_counts.values()) == {1}


def started(server, photos, *options):
    """The command as a process of its own."""
    environ = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": fake_api.KEY}
    words = [sys.executable, "-m", "sortbelt", "enqueue", str(photos), "--json", *options]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_that_is_killed_again_and_again_ends_with_every_image_once(server, image_dir, tmp_path):
    for number in range(1500):
        (image_dir / f"{number:04}.jpg").write_bytes(b"more %d" % number)
    dice, kills = random.Random(7), 0  # noqa: S311 (nothing secret)
    real = server.add_images

    def slowly(job, some):
        time.sleep(0.005)
        real(job, some)

    server.add_images = slowly
    for _ in range(8):
        seen = len(server.requests)
        with started(server, image_dir) as run:
            patience = time.monotonic() + 30
            while len(server.requests) < seen + 2 and run.poll() is None and time.monotonic() < patience:
                time.sleep(0.005)
            time.sleep(dice.uniform(0, 0.15))
            kills += run.poll() is None
            run.kill()
            run.communicate()
    with started(server, image_dir) as run:
        out, err = run.communicate(timeout=60)

    (job,) = server.jobs.values()
    assert kills >= 5
    assert run.returncode == 1, err
    assert json.loads(out)["counts"]["total"] == len(job["images"]) == 1601
    assert set(server.upload_counts.values()) == {1}


def test_a_folder_that_grows_is_watched_and_its_new_images_are_sent_once_they_are_whole(
    server, run_cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "MIN_FILE_AGE_SECONDS", 0.6)
    monkeypatch.setattr(runner, "MIN_POLL_SECONDS", 0.05)
    root = tmp_path / "camera"
    root.mkdir()

    def camera():
        for number in range(3):
            with (root / f"{number}.jpg").open("wb", buffering=0) as file:
                for _ in range(4):
                    file.write(b"%d" % number)
                    time.sleep(0.1)

    taking = threading.Thread(target=camera)
    taking.start()
    run = run_cli("enqueue", root, "--watch", "--idle", "2.5", "--json")
    taking.join()

    (job,) = server.jobs.values()
    assert run.code == 0, run.err
    assert job["images"] == {f"{n}.jpg": b"%d" % n * 4 for n in range(3)}
    assert report(run)["counts"]["done"] == 3


def test_an_image_that_changes_in_a_watched_folder_is_classified_anew_in_another_job(
    server, run_cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "MIN_FILE_AGE_SECONDS", 0.1)
    monkeypatch.setattr(runner, "MIN_POLL_SECONDS", 0.05)
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")

    def edit():
        while not server.upload_counts:
            time.sleep(0.01)
        (root / "a.jpg").write_bytes(b"22")

    editing = threading.Thread(target=edit)
    editing.start()
    run_cli("enqueue", root, "--watch", "--idle", "1", "--json")
    editing.join()

    assert [job["images"] for job in server.jobs.values()] == [{"a.jpg": b"1"}, {"a.jpg": b"22"}]
    assert all(job["sealed"] for job in server.jobs.values())


def interrupted_run(client, tmp_path, files):
    """A folder whose run has sealed a job with these files, and was interrupted after it had sent a file to another."""
    root = tmp_path / "camera"
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    with folder_run(client, root) as run:
        run.send()
        run.seal()
        (root / "b.jpg").write_bytes(b"new")
        run.send()
    return root


def test_the_summary_of_a_resumed_run_is_about_all_of_its_jobs(server, client, run_cli, tmp_path):
    """It was interrupted after it had sealed one job. The next run, with another job, is about that one only."""
    root = interrupted_run(client, tmp_path, {"a.jpg": b"1", "broken.jpg": b"2"})
    command = ["enqueue", root, "--manifest", tmp_path / "book.sqlite"]

    reports = []
    for _ in range(2):
        result = run_cli(*command, "--json")
        assert result.code == 1
        reports.append(report(result))
    text = run_cli(*command, "--no-wait")
    (root / "c.jpg").write_bytes(b"4")
    other = run_cli(*command, "--json")

    *jobs, other_job = server.jobs
    for one in reports:
        assert (one["job_id"], one["job_ids"], one["labels"]) == (jobs[1], jobs, {"sushi": 2})
        assert (one["counts"]["total"], one["counts"]["done"], one["counts"]["failed"]) == (3, 2, 1)
        assert [failure["image"] for failure in one["failures"]] == ["broken.jpg"]
    assert (text.code, text.out) == (1, "sushi\t2\n")
    assert f"Job {jobs[0]} done, 1 failed" in text.err
    assert f"Job {jobs[1]} done:" in text.err
    assert (other.code, report(other)["job_ids"], report(other)["failures"]) == (0, [other_job], [])


def test_an_earlier_job_of_the_run_that_was_deleted_does_not_count(server, client, run_cli, tmp_path):
    root = interrupted_run(client, tmp_path, {"broken.jpg": b"1"})
    server.jobs.pop(next(iter(server.jobs)))

    result = run_cli("enqueue", root, "--manifest", tmp_path / "book.sqlite", "--json")

    assert (result.code, report(result)["job_ids"], report(result)["labels"]) == (0, list(server.jobs), {"sushi": 1})


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.usefixtures("eager")
def test_a_watching_run_ends_with_the_failures_of_all_its_jobs(server, client, tmp_path, mended):
    """But an image that failed and was replaced by one that is classified does not count."""
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")
    (root / "b.jpg").write_bytes(b"")

    ended = watch(client, root, nothing, lambda: (root / ("b.jpg" if mended else "a.jpg")).write_bytes(b"22"), nothing)

    assert [job["images"] for job in server.jobs.values()] == [
        {"a.jpg": b"1", "b.jpg": b""},
        {"b.jpg" if mended else "a.jpg": b"22"},
    ]
    assert (ended.is_successful, ended.failures) == (mended, [] if mended else [("b.jpg", "undecodable")])
    assert ended.summary.labels == {"sushi": 1 + mended}
    assert ended.summary.failed == 1 - mended


@pytest.mark.usefixtures("eager")
def test_a_watching_run_goes_on_after_the_server_sealed_its_job(server, client, tmp_path):
    """As it does with an open job to which nothing was added for a week: the next file goes into another one."""
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")

    ended = watch(
        client,
        root,
        nothing,
        nothing,
        lambda: client.seal(*server.jobs),
        lambda: (root / "b.jpg").write_bytes(b"22"),
        nothing,
    )

    assert [job["images"] for job in server.jobs.values()] == [{"a.jpg": b"1"}, {"b.jpg": b"22"}]
    assert (ended.stats.sent, ended.is_successful, ended.summary.labels) == (2, True, {"sushi": 2})


def test_when_the_network_dies_the_rerun_goes_on(server, image_dir):
    with Client(server.url, fake_api.KEY) as client, folder_run(client, image_dir) as run:
        real = client.add_images
        calls = iter(range(100))

        def dies(*arguments):
            if next(calls) > 2:
                raise errors.Unreachable("The cable is out.")
            return real(*arguments)

        client.add_images = dies
        with pytest.raises(errors.Unreachable):
            run.send()
        client.add_images = real
    with Client(server.url, fake_api.KEY) as client, folder_run(client, image_dir) as run:
        run.send()

    assert run.job.counts.total == 101
    assert set(server.upload_counts.values()) == {1}


def test_a_folder_that_only_has_names_no_job_can_have_opens_no_job(run_cli, server, tmp_path):
    """It is reported each time, and the exit code says so."""
    deep = tmp_path / "photos" / ("d" * 250) / ("e" * 250) / ("f" * 250) / ("g" * 250)
    deep.mkdir(parents=True)
    (deep / f"{'h' * 100}.jpg").write_bytes(b"1")
    for _ in range(2):
        run = run_cli("enqueue", tmp_path / "photos", "--json")
        report = json.loads(run.out.splitlines()[-1])
        assert (run.code, report["job_id"], report["not_sent"]) == (1, None, 1)
        assert report["failures"][0]["code"] == "name_too_long"
    assert server.jobs == {}


def test_images_that_are_not_in_the_job_are_missing(run_cli, server, tmp_path, monkeypatch):
    """A server that takes two names for one has fewer images than were sent: that is reported, and not a success."""
    add_images = server.add_images
    monkeypatch.setattr(server, "add_images", lambda job, images: add_images(job, images[:1]))
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).write_bytes(name.encode())
    run = run_cli("enqueue", tmp_path / "photos", "--json")
    report = json.loads(run.out.splitlines()[-1])
    assert (run.code, report["sent"], report["counts"]["done"], report["missing"]) == (1, 2, 1, 1)


@pytest.mark.parametrize("left_out", ["holiday.rar", "old.7z"])
def test_what_may_be_an_image_and_is_left_out_is_no_success(run_cli, server, tmp_path, left_out):
    """The reason is printed; a file that is certainly not an image changes nothing."""
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"1")
    assert run_cli("enqueue", tmp_path).code == 0
    (tmp_path / left_out).write_bytes(b"")
    run = run_cli("enqueue", tmp_path, "--fresh")
    assert run.code == 1
    assert "1 archive of another format" in run.err


@pytest.mark.parametrize("suffix", ["zip", "tar", "tgz", "tar.bz2"])
def test_an_archive_is_sent_once(run_cli, server, tmp_path, suffix):
    """A second run of the same archive sends nothing; one more image in it is all that a third run sends."""
    kind = {"zip": "zip", "tar": "tar", "tgz": "gztar", "tar.bz2": "bztar"}[suffix]
    path, folder = tmp_path / f"holiday.{suffix}", tmp_path / "images"
    folder.mkdir()
    for count, sent in ((2, 2), (2, 0), (3, 1)):
        if sent:
            for number in range(count):
                (folder / f"{number}.jpg").write_bytes(b"%d" % number)
            Path(shutil.make_archive(tmp_path / "made", kind, folder)).rename(path)
        run = run_cli("enqueue", path, "--json")
        assert (run.code, json.loads(run.out.splitlines()[-1])["sent"]) == (0, sent), run.err


class StepwiseWalker(walker.DirectoryWalker):
    """A walker that calls one function before each walk; after the last one it ends a watching run."""

    def __init__(self, root, *steps):
        super().__init__(str(root))
        self.steps = itertools.chain([nothing], steps, [end_watching])  # the first walk is that of `prepare`

    def walk(self):
        """Change the folder, and walk it."""
        next(self.steps, nothing)()
        return super().walk()


class WatchingEndedError(Exception):
    """No step is left."""


def end_watching():
    """End the run."""
    raise WatchingEndedError


def watch(client, root, *steps, options=None):
    """A watching run with a step before each of its walks; return its outcome."""
    not_sent = []
    with contextlib.closing(run_manifest.RunManifest(root.parent / "book.sqlite", str(root))) as book:
        run = runner.BulkRun(
            client, StepwiseWalker(root, *steps), book, options, lambda run: not_sent.append(run.stats.not_sent)
        )
        run.prepare(allow_empty=True)
        with pytest.raises(WatchingEndedError):
            run.watch(None)
        run.send()
        run.seal()
        run.wait_until_ended()
        summary = run.record_failures()
        failures = [(f.name, f.code) for f in run.failures()]
        return SimpleNamespace(
            stats=run.stats,
            is_successful=run.is_successful,
            summary=summary,
            failures=failures,
            not_sent=not_sent,
        )


@pytest.fixture
def eager(monkeypatch):
    """A watching run takes files at once, and does not pause."""
    monkeypatch.setattr(runner, "MIN_FILE_AGE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "MIN_POLL_SECONDS", 0.0)
    monkeypatch.setattr(runner, "WALK_REST_FACTOR", 0)


def nothing():
    """Leave the folder as it is."""


@pytest.mark.usefixtures("eager")
def test_what_is_not_sent_from_a_watched_folder_is_counted_once(server, client, tmp_path):
    """An unreadable file is tried at each look, one that the server rejected only if it has changed."""
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")
    (root / "bad.zip").write_bytes(b"no archive")
    (root / "huge.jpg").write_bytes(bytes(20_000))
    (root / "vast.jpg").write_bytes(bytes(30_000))
    server.max_body_bytes = 19_000
    at_edit = []

    def edit():
        at_edit.append(rejections())
        (root / "huge.jpg").write_bytes(bytes(25_000))

    def rejections():
        return sum(path.endswith("/images") for _, path, _ in server.requests)

    options = runner.RunOptions(max_failure_rate=0.9)
    ended = watch(client, root, nothing, *[nothing] * 30, edit, nothing, nothing, options=options)

    assert (ended.stats.sent, ended.stats.not_sent) == (1, 3)
    assert ended.failures == [
        ("bad.zip", "bad_archive"),
        ("huge.jpg", "body_too_large"),
        ("vast.jpg", "body_too_large"),
    ]
    assert rejections() == at_edit[0] + 1


@pytest.mark.usefixtures("eager")
def test_a_file_of_a_watched_folder_that_can_be_sent_after_all_is_no_failure(server, client, tmp_path):
    root = tmp_path / "camera"
    root.mkdir()
    (root / "huge.jpg").write_bytes(bytes(20_000))
    server.max_body_bytes = 19_000

    ended = watch(client, root, nothing, lambda: (root / "huge.jpg").write_bytes(b"1"))

    assert (ended.stats.sent, ended.stats.not_sent, ended.failures, ended.is_successful) == (1, 0, [], True)


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.usefixtures("eager")
def test_an_archive_that_is_still_written_to_is_no_failure(client, tmp_path, monkeypatch, pauses):
    """It is left alone while it is recent; if the writing pauses, it is damaged only until it goes on."""
    root = tmp_path / "camera"
    root.mkdir()
    path, whole = root / "a.zip", tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("one.jpg", b"1")
    monkeypatch.setattr(runner, "MIN_FILE_AGE_SECONDS", 3600.0)

    def copy(data):
        path.write_bytes(data)
        if pauses or len(data) == whole.stat().st_size:
            os.utime(path, (1, 1))

    ended = watch(
        client, root, lambda: copy(whole.read_bytes()[:-9]), nothing, lambda: copy(whole.read_bytes()), nothing
    )

    assert max(ended.not_sent) == pauses
    assert (ended.stats.sent, ended.stats.not_sent, ended.failures, ended.is_successful) == (1, 0, [], True)
