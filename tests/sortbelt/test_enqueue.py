"""Folder runs, through the command and through the object."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from sortbelt import enqueue, errors, folder, manifest, progress
from sortbelt.client import Client
from tests.sortbelt import fakeserver


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures, of which the fake finds one broken."""
    root = tmp_path / "photos"
    for number in range(100):
        path = root / str(number % 3) / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    (root / "broken.png").write_bytes(b"")
    (root / "notes.txt").write_text("no picture")
    (root / "link.jpg").symlink_to(root / "broken.png")
    return root


@pytest.fixture
def client(server):
    with Client(server.url, fakeserver.KEY) as client:
        yield client


@contextlib.contextmanager
def folder_run(client, root, wishes=None, file=None):
    """A run of this process."""
    book = manifest.Manifest(file or root.parent / "book.sqlite", str(root))
    with contextlib.closing(book):
        run = enqueue.FolderRun(client, folder.Folder(str(root)), book, wishes)
        run.begin()
        yield run


def test_a_run_waits_while_there_is_no_room_and_says_so(sortbelt, server, photos, monkeypatch):
    """A full queue and a key that has used up its minute cost time, and no picture."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    (photos / "broken.png").unlink()
    server.faults = [None, None, None, (503, {"Retry-After": "1.1"}), (429, {"Retry-After": "1"})]

    run = sortbelt("enqueue", photos, "--json")

    assert run.code == 0
    assert told(run)["not_sent"] == 0
    assert told(run)["counts"]["done"] == 100
    assert "Waiting 1 s" in run.err


def test_a_key_that_may_have_few_pictures_open_gets_them_in_smaller_parcels(sortbelt, server, photos):
    """By their bytes, and by reference where the server has them already."""
    (photos / "broken.png").unlink()
    server.most_images = 3

    for _ in range(2):
        run = sortbelt("enqueue", photos, "--json", "--fresh")
        assert (run.code, told(run)["not_sent"], told(run)["counts"]["done"]) == (0, 0, 100)
    assert told(run)["by_reference"] == 100
    assert set(server.received.values()) == {1}


def told(run):
    return json.loads(run.out.splitlines()[-1])


def test_a_folder_is_one_job_with_every_picture_in_it_once(sortbelt, server, photos):
    run = sortbelt("enqueue", photos, "--json")

    (job,) = server.jobs
    assert run.code == 1
    assert told(run)["job_id"] == job
    assert told(run)["status"] == "done"
    counts = told(run)["counts"]
    assert (counts["total"], counts["done"], counts["failed"]) == (101, 100, 1)
    assert told(run)["labels"] == {"sushi": 100}
    assert told(run)["skipped"] == {"not a picture": 1, "symbolic link": 1}
    assert told(run)["failures"] == [{"image": "broken.png", "code": "undecodable", "detail": "No picture."}]
    assert sorted(server.jobs[job]["images"])[:2] == ["0/000.jpg", "0/003.jpg"]


def test_the_summary_has_labels_and_reasons(sortbelt, photos):
    run = sortbelt("enqueue", photos)

    assert run.out == "sushi\t100\n"
    assert "failed: broken.png: No picture. (undecodable)" in run.err
    assert "Skipped: 1 symbolic link, 1 not a picture." in run.err
    assert "101/101 sent, 101/101 classified, 1 failed" in run.err


def test_all_well_is_exit_code_0(sortbelt, photos):
    assert sortbelt("enqueue", photos, "--exclude", "broken*").code == 0
    assert sortbelt("enqueue", photos, "--include", "*.jpg").code == 0


def test_without_waiting_the_job_is_left_to_itself(sortbelt, server, photos):
    server.polls_until_ended = 10_000

    run = sortbelt("enqueue", photos, "--no-wait", "--json")

    assert run.code == 0
    assert told(run)["status"] == "queued"


@pytest.mark.parametrize("name", ["none", "empty", "texts", "photos/broken.png"])
def test_a_folder_without_pictures_makes_no_job(sortbelt, server, photos, name):
    (photos.parent / "empty").mkdir()
    (photos.parent / "texts").mkdir()
    (photos.parent / "texts" / "a.txt").touch()

    run = sortbelt("enqueue", photos.parent / name)

    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert not server.jobs


def test_the_same_command_again_sends_nothing_and_shows_the_same_job(sortbelt, server, photos):
    first = sortbelt("enqueue", photos, "--json")
    again = sortbelt("enqueue", photos, "--json")

    assert told(again)["job_id"] == told(first)["job_id"]
    assert (told(again)["sent"], told(again)["unchanged"]) == (0, 101)
    assert told(again)["labels"] == {"sushi": 100}
    assert again.code == 1
    assert set(server.received.values()) == {1}
    assert "Nothing is new since job" in sortbelt("enqueue", photos).err


def test_what_is_new_or_changed_goes_into_a_new_job_and_what_was_only_touched_does_not(sortbelt, server, photos):
    first = told(sortbelt("enqueue", photos, "--json"))["job_id"]
    (photos / "new.jpg").write_bytes(b"new")
    (photos / "0" / "000.jpg").write_bytes(b"other")
    os.utime(photos / "1" / "001.jpg", ns=(1, 1))

    again = told(sortbelt("enqueue", photos, "--json"))

    assert again["job_id"] != first
    assert set(server.jobs[again["job_id"]]["images"]) == {"new.jpg", "0/000.jpg"}
    assert told(sortbelt("enqueue", photos, "--json"))["sent"] == 0


def test_bytes_that_the_server_has_are_not_sent_again(sortbelt, server, photos):
    sortbelt("enqueue", photos)
    server.received.clear()
    (photos / "copy.jpg").write_bytes((photos / "0" / "000.jpg").read_bytes())

    fresh = told(sortbelt("enqueue", photos, "--fresh", "--json"))

    assert (fresh["sent"], fresh["by_reference"], fresh["counts"]["total"]) == (102, 102, 102)
    assert not server.received


def test_a_blob_that_was_purged_meanwhile_is_uploaded_after_all(server, photos, client):
    with folder_run(client, photos, file=photos.parent / "a.sqlite") as run:
        run.send()
    real = client.known_blobs

    def forgetful(digests):
        known = real(digests)
        for digest in sorted(known)[:5]:
            server.blobs.pop(digest)
        return known

    client.known_blobs = forgetful
    with folder_run(client, photos, file=photos.parent / "b.sqlite") as run:
        run.send()

    assert (run.tally.sent, run.job.counts.total) == (101, 101)
    assert sorted(server.received.values())[-5:] == [2] * 5


def test_a_server_that_cannot_be_asked_gets_everything(sortbelt, server, photos):
    server.old = True

    assert told(sortbelt("enqueue", photos, "--json"))["counts"]["total"] == 101
    assert sum(path == "/v1/blobs/check" for _, path, _ in server.asked) <= enqueue.READERS


def test_a_picture_that_changes_while_its_job_is_open_is_told(server, photos, client):
    with folder_run(client, photos) as run:
        run.send()
    (photos / "0" / "000.jpg").write_bytes(b"other")

    with folder_run(client, photos) as run:
        run.send()
        run.seal()
        changed = run.tally.changed
    with folder_run(client, photos) as run:
        run.send()

    assert changed == 1
    assert list(server.jobs[run.job.id]["images"]) == ["0/000.jpg"]
    assert len(server.jobs) == 2


def test_a_picture_that_changes_between_the_first_look_and_its_upload_is_known_as_it_was_sent(client, photos):
    real = client.known_blobs

    def meanwhile(digests):
        (photos / "0" / "000.jpg").write_bytes(b"other bytes")
        client.known_blobs = real
        return real(digests)

    client.known_blobs = meanwhile
    with folder_run(client, photos) as run:
        run.send()
    with folder_run(client, photos) as run:
        run.send()

    assert (run.tally.sent, run.tally.changed) == (0, 0)


def test_what_failed_is_sent_again_on_request_and_only_that(sortbelt, server, photos):
    sortbelt("enqueue", photos)
    assert "broken.png" in sortbelt("enqueue", photos).err

    again = told(sortbelt("enqueue", photos, "--retry-failed", "--json"))

    assert list(server.jobs[again["job_id"]]["images"]) == ["broken.png"]
    assert again["counts"]["failed"] == 1
    (photos / "broken.png").unlink()
    assert told(sortbelt("enqueue", photos, "--retry-failed", "--json"))["sent"] == 0


def test_what_failed_in_a_job_that_nobody_waited_for_can_be_retried_once_it_has_ended(sortbelt, server, photos):
    server.polls_until_ended = 10_000
    sortbelt("enqueue", photos, "--no-wait")
    too_soon = sortbelt("enqueue", photos, "--retry-failed")
    server.polls_until_ended = 1

    again = told(sortbelt("enqueue", photos, "--retry-failed", "--json"))

    assert too_soon.code == 2
    assert "has not ended" in too_soon.err
    assert again["sent"] == 1


def test_failures_are_written_as_csv_or_ndjson(sortbelt, photos, tmp_path):
    sortbelt("enqueue", photos, "--failures", tmp_path / "failed.csv")
    sortbelt("enqueue", photos, "--failures", tmp_path / "failed.ndjson")

    assert (tmp_path / "failed.csv").read_text().splitlines()[1] == "broken.png,undecodable,No picture."
    assert json.loads((tmp_path / "failed.ndjson").read_text())["code"] == "undecodable"


def test_too_many_failures_stop_the_run_and_say_how_to_go_on(sortbelt, server, photos):
    for number in range(100):
        (photos / f"broken{number}.jpg").write_bytes(b"")
    server.polls_until_ended = 0

    run = sortbelt("enqueue", photos, "--max-failure-rate", "0.3")

    assert run.code == 1
    assert "more than the 30% allowed" in run.err
    assert sortbelt("enqueue", photos, "--fresh", "--max-failure-rate", "0.9", "--json").out


def test_a_dry_run_asks_nothing_of_the_server_and_leaves_nothing(sortbelt, server, photos):
    plan = told(sortbelt("enqueue", photos, "--dry-run", "--json"))

    assert (plan["pictures"], plan["to_send"], plan["unchanged"], plan["job_id"]) == (101, 101, 0, None)
    assert not server.asked
    sortbelt("enqueue", photos)
    assert told(sortbelt("enqueue", photos, "--dry-run", "--json"))["to_send"] == 0
    assert sortbelt("enqueue", photos, "--dry-run").out == "0 of 101 pictures would be sent (0 bytes).\n"


def test_a_job_that_is_gone_is_told_with_what_to_do(sortbelt, server, photos):
    sortbelt("enqueue", photos)
    server.jobs.clear()

    run = sortbelt("enqueue", photos)

    assert run.code == 2
    assert "is not on the server any more" in run.err
    assert "--fresh" in run.err
    assert told(sortbelt("enqueue", photos, "--fresh", "--json"))["counts"]["total"] == 101


def test_a_job_that_was_cancelled_is_told_and_what_it_left_can_be_taken_up(sortbelt, server, photos):
    server.polls_until_ended = 10_000
    job = told(sortbelt("enqueue", photos, "--no-wait", "--json"))["job_id"]
    sortbelt("cancel", job)
    server.polls_until_ended = 1

    refused = sortbelt("enqueue", photos)
    again = told(sortbelt("enqueue", photos, "--retry-failed", "--json"))

    assert refused.code == 2
    assert "was cancelled: --retry-failed" in refused.err
    assert again["counts"]["total"] == 101


def test_two_runs_on_one_folder_do_not_mix(sortbelt, server, photos, client):
    path = manifest.locate(server.url, fakeserver.KEY, str(photos), None)
    path.parent.mkdir(parents=True)

    with folder_run(client, photos, file=path):
        run = sortbelt("enqueue", photos)

    assert run.code == 2
    assert "Another run (pid" in run.err


def test_broken_connections_and_a_full_queue_on_the_way_lose_and_double_nothing(server, photos, client):
    server.faults = [None, "drop", (503, {"Retry-After": "0.1"}), "drop", (429, {"Retry-After": "0.1"}), None, 502]
    with folder_run(client, photos) as run:
        run.send()
        run.seal()
        run.follow()

    (job,) = server.jobs.values()
    assert not server.faults
    assert (run.tally.sent, run.job.counts.total, len(job["images"])) == (101, 101, 101)


def test_a_picture_too_big_for_the_server_costs_itself_only(sortbelt, server, photos):
    (photos / "huge.jpg").write_bytes(bytes(20_000))
    server.biggest_body = 19_000

    run = sortbelt("enqueue", photos, "--exclude", "broken*", "--json")

    assert run.code == 1
    assert told(run)["counts"]["done"] == 100
    assert told(run)["not_sent"] == 1
    assert [(one["image"], one["code"]) for one in told(run)["failures"]] == [("huge.jpg", "body_too_large")]


@pytest.mark.parametrize("when", ["before the first look", "between the looks"])
def test_a_picture_that_cannot_be_read_costs_itself_only(server, photos, client, when):
    gone = photos / "0" / "000.jpg"
    real, asked = client.known_blobs, threading.Event()

    def late(digests):
        if not asked.is_set():
            asked.set()
            gone.unlink()
        return real(digests)

    if when == "between the looks":
        client.known_blobs = late
    with folder_run(client, photos) as run:
        if when == "before the first look":
            gone.unlink()
            gone.symlink_to(photos / "1" / "001.jpg")
        run.send()
        failures = list(run.failures())

    assert run.tally.sent == 100
    assert [(f.name, f.code) for f in failures] == ([("0/000.jpg", "unreadable")] if asked.is_set() else [])


def test_several_uploads_are_under_way_at_once(server, photos, client):
    together = 0
    at_once = []
    real = client.add_images

    def slow(*arguments):
        nonlocal together
        together += 1
        at_once.append(together)
        time.sleep(0.1)
        together -= 1
        return real(*arguments)

    client.add_images = slow
    with folder_run(client, photos) as run:
        run.send()

    assert max(at_once) == enqueue.UPLOADS


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(server, photos, sortbelt):
    server.faults = [None, None, None] + [(503, {"Retry-After": "60"})] * 10
    with started(server, photos) as run:
        while len(server.asked) < 6:
            time.sleep(0.05)
        time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=10)[1]
    (job,) = server.jobs
    server.faults = []

    again = sortbelt("enqueue", photos, "--json")

    assert run.returncode == 130
    assert f"Job {job} is open" in said.splitlines()[-1]
    assert "the same command goes on" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert told(again)["counts"]["total"] == 101
    assert len(server.jobs) == 1
    assert set(server.received.values()) == {1}


def test_a_job_that_another_machine_left_open_is_gone_on_with(server, photos, client, sortbelt, tmp_path):
    with folder_run(client, photos, file=tmp_path / "elsewhere.sqlite") as run:
        run.send()

    again = told(sortbelt("enqueue", photos, "--job", run.job.id, "--json"))

    assert (again["job_id"], again["counts"]["total"]) == (run.job.id, 101)
    assert set(server.received.values()) == {1}


def started(server, photos, *options):
    """The command as a process of its own."""
    environ = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": fakeserver.KEY}
    words = [sys.executable, "-m", "sortbelt", "enqueue", str(photos), "--json", *options]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_that_is_killed_again_and_again_ends_with_every_picture_once(server, photos, tmp_path):
    for number in range(1500):
        (photos / f"{number:04}.jpg").write_bytes(b"more %d" % number)
    dice, kills = random.Random(7), 0  # noqa: S311 (nothing secret)
    real = server.add

    def slowly(job, some):
        time.sleep(0.005)
        real(job, some)

    server.add = slowly
    for _ in range(8):
        seen = len(server.asked)
        with started(server, photos) as run:
            patience = time.monotonic() + 30
            while len(server.asked) < seen + 2 and run.poll() is None and time.monotonic() < patience:
                time.sleep(0.005)
            time.sleep(dice.uniform(0, 0.15))
            kills += run.poll() is None
            run.kill()
            run.communicate()
    with started(server, photos) as run:
        out, err = run.communicate(timeout=60)

    (job,) = server.jobs.values()
    assert kills >= 5
    assert run.returncode == 1, err
    assert json.loads(out)["counts"]["total"] == len(job["images"]) == 1601
    assert set(server.received.values()) == {1}


def test_a_folder_that_grows_is_watched_and_its_new_pictures_are_sent_once_they_are_whole(
    server, sortbelt, tmp_path, monkeypatch
):
    monkeypatch.setattr(enqueue, "SETTLE_SECONDS", 0.6)
    monkeypatch.setattr(enqueue, "LEAST_POLL_SECONDS", 0.05)
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
    run = sortbelt("enqueue", root, "--watch", "--idle", "2.5", "--json")
    taking.join()

    (job,) = server.jobs.values()
    assert run.code == 0, run.err
    assert job["images"] == {f"{n}.jpg": b"%d" % n * 4 for n in range(3)}
    assert told(run)["counts"]["done"] == 3


def test_a_picture_that_changes_in_a_watched_folder_is_classified_anew_in_another_job(
    server, sortbelt, tmp_path, monkeypatch
):
    monkeypatch.setattr(enqueue, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(enqueue, "LEAST_POLL_SECONDS", 0.05)
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")

    def edit():
        while not server.received:
            time.sleep(0.01)
        (root / "a.jpg").write_bytes(b"22")

    editing = threading.Thread(target=edit)
    editing.start()
    sortbelt("enqueue", root, "--watch", "--idle", "1", "--json")
    editing.join()

    assert [job["images"] for job in server.jobs.values()] == [{"a.jpg": b"1"}, {"a.jpg": b"22"}]
    assert all(job["sealed"] for job in server.jobs.values())


def test_when_the_network_dies_the_rerun_goes_on(server, photos):
    with Client(server.url, fakeserver.KEY) as client, folder_run(client, photos) as run:
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
    with Client(server.url, fakeserver.KEY) as client, folder_run(client, photos) as run:
        run.send()

    assert run.job.counts.total == 101
    assert set(server.received.values()) == {1}
