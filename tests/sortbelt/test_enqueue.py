import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sortbelt import enqueue, folder
from sortbelt.client import Client
from tests.sortbelt import fakeserver


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures, of which the fake finds one broken."""
    root = tmp_path / "photos"
    for number in range(100):
        path = root / str(number % 3) / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / "broken.png").write_bytes(b"")
    (root / "notes.txt").write_text("no picture")
    (root / "link.jpg").symlink_to(root / "broken.png")
    return root


def test_a_folder_is_one_job_with_every_picture_in_it_once(sortbelt, server, photos):
    run = sortbelt("enqueue", photos, "--json")

    told = json.loads(run.out.splitlines()[-1])
    (job,) = server.jobs
    assert run.code == 1
    assert told["job_id"] == job
    assert told["status"] == "done"
    assert (told["counts"]["total"], told["counts"]["done"], told["counts"]["failed"]) == (101, 100, 1)
    assert told["labels"] == {"sushi": 100}
    assert told["skipped"] == {"not a picture": 1, "symbolic link": 1}
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
    assert json.loads(run.out)["status"] == "queued"


@pytest.mark.parametrize("name", ["none", "empty", "texts", "photos/broken.png"])
def test_a_folder_without_pictures_makes_no_job(sortbelt, server, photos, name):
    (photos.parent / "empty").mkdir()
    (photos.parent / "texts").mkdir()
    (photos.parent / "texts" / "a.txt").touch()

    run = sortbelt("enqueue", photos.parent / name)

    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert not server.jobs


def test_broken_connections_and_a_full_queue_on_the_way_lose_and_double_nothing(server, photos):
    server.faults = [None, "drop", (503, {"Retry-After": "0.1"}), "drop", (429, {"Retry-After": "0.1"}), None, 502]
    with Client(server.url, fakeserver.KEY) as client:
        source = folder.Folder(str(photos))
        run = enqueue.start(client, source, job_id=None, model=None, priority=None)
        enqueue.send(client, source, run, lambda _: None)
        enqueue.follow(client, run, lambda _: None)

    (job,) = server.jobs.values()
    assert not server.faults
    assert (run.sent, run.job.counts.total, len(job["images"])) == (101, 101, 101)


def test_a_picture_too_big_for_the_server_costs_itself_only(sortbelt, server, photos):
    (photos / "huge.jpg").write_bytes(bytes(20_000))
    server.biggest_body = 19_000

    run = sortbelt("enqueue", photos, "--exclude", "broken*", "--json")

    told = json.loads(run.out)
    assert run.code == 1
    assert told["counts"]["done"] == 100
    assert [(one["image"], one["code"]) for one in told["not_sent"]] == [("huge.jpg", "body_too_large")]


def test_a_picture_that_cannot_be_read_costs_itself_only(server, photos):
    source = folder.Folder(str(photos))
    with Client(server.url, fakeserver.KEY) as client:
        run = enqueue.start(client, source, job_id=None, model=None, priority=None)
        real, gone = source.pictures, photos / "0" / "000.jpg"

        def pictures():
            for picture in real():
                if picture.name == "0/000.jpg":
                    gone.unlink()
                yield picture

        object.__setattr__(source, "pictures", pictures)
        enqueue.send(client, source, run, lambda _: None)

    assert run.sent == 100
    assert [(one.name, one.code) for one in run.not_sent] == [("0/000.jpg", "unreadable")]


def test_several_uploads_are_under_way_at_once(server, photos):
    together = 0
    at_once = []

    with Client(server.url, fakeserver.KEY) as client:

        class Slow:
            def __getattr__(self, name):
                return getattr(client, name)

            def add_images(self, *arguments):
                nonlocal together
                together += 1
                at_once.append(together)
                time.sleep(0.1)
                together -= 1
                return client.add_images(*arguments)

        source = folder.Folder(str(photos))
        run = enqueue.start(Slow(), source, job_id=None, model=None, priority=None)
        enqueue.send(Slow(), source, run, lambda _: None)

    assert max(at_once) == enqueue.UPLOADS


def test_ctrl_c_says_how_to_go_on_and_going_on_sends_the_rest(server, photos, sortbelt):
    environ = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": fakeserver.KEY}
    server.faults = [None, None] + [(503, {"Retry-After": "60"})] * 10
    words = [sys.executable, "-m", "sortbelt", "enqueue", str(photos)]
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as run:
        while len(server.asked) < 5:
            time.sleep(0.05)
        time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=10)[1]
    (job,) = server.jobs
    server.faults = []

    again = sortbelt("enqueue", photos, "--job", job, "--json")

    assert run.returncode == 130
    assert f"--job {job}` goes on" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert json.loads(again.out)["counts"]["total"] == 101
    assert len(server.jobs) == 1
