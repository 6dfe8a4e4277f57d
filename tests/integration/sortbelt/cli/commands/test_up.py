"""The embedded stack, whole and real: Redis, SQLite, a worker, the API."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from PIL import Image

from sortbelt.client.sync_client import Client
from tests.support import waiting

UP = [sys.executable, "-P", "-m", "sortbelt", "up", "--port", "0", "--json"]
ALL_ADDRESSES = ("--host", "::") if socket.has_ipv6 else ()


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("SORTBELT_")}


@contextlib.contextmanager
def up(folder, *options, cwd=None):
    """`sortbelt up` until the block ends; the process, and what it printed when it was ready."""
    words = [*UP, "--data-dir", str(folder), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, env=clean_environment(), cwd=cwd, **pipes) as process:
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=waiting.TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One stack for the tests that leave it as it was."""
    with up(tmp_path_factory.mktemp("up") / "data") as (process, report):
        yield process, report


@pytest.fixture
def image_dir(tmp_path):
    """A folder with three images, a text with an image suffix, an empty file, and a text."""
    root = tmp_path / "photos"
    (root / "deeper").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.jpg", "green"), ("deeper/c.webp", "blue")):
        Image.new("RGB", (80, 60), colour).save(root / name)
    (root / "text.jpg").write_text("This is not an image.")
    (root / "empty.png").touch()
    (root / "notes.txt").write_text("Nor is this.")
    return root


def sortbelt(report, *arguments):
    environ = {**clean_environment(), "SORTBELT_URL": report["url"], "SORTBELT_KEY": report["key"]}
    words = [sys.executable, "-m", "sortbelt", *map(str, arguments)]
    return subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=120)


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


def child(process, word):
    """The child with a word in its command line that all others lack; None while there is none."""
    alive = (c for c in psutil.Process(process.pid).children() if c.status() != psutil.STATUS_ZOMBIE)
    return next((c for c in alive if any(word in part for part in c.cmdline())), None)


def test_when_it_is_ready_it_says_so_in_one_line(stack):
    _, report = stack

    assert list(report) == ["url", "key", "data_dir"]
    assert report["url"].startswith("http://127.0.0.1:")


def test_a_folder_of_images_goes_through_and_every_file_has_its_fate(stack, image_dir):
    run = sortbelt(stack[1], "enqueue", image_dir, "--json")

    report = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 1, run.stderr
    assert (report["counts"]["total"], report["counts"]["done"], report["counts"]["failed"]) == (5, 3, 2)
    assert sum(report["labels"].values()) == 3
    rows = [line.split("\t") for line in sortbelt(stack[1], "results", report["job_id"]).stdout.splitlines()]
    fates = {row[0]: row[1] for row in rows}
    assert fates == {
        "a.png": "done",
        "b.jpg": "done",
        "deeper/c.webp": "done",
        "empty.png": "failed",
        "text.jpg": "failed",
    }
    assert all(row[2] and 0 < float(row[3]) <= 1 for row in rows if row[1] == "done")


def test_one_image_is_submitted_and_waited_for(stack, image_dir):
    run = sortbelt(stack[1], "submit", image_dir / "a.png", "--wait")

    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("a.png\tdone\t")


@pytest.fixture
def hostile_dir(tmp_path):
    """A folder whose modules have the names of ours, and of what ours import; each leaves a file when it is run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    ours = ("api", "core", "worker", "dispatcher", "migrations", "model", "sortbelt")
    for name in (*ours, "flask", "json", "multipart", "socket", "torch"):
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'hijacked')!r}, 'a').write({name!r})\nraise SystemExit(9)"
        )
    return folder


def test_modules_in_the_current_folder_are_not_part_of_the_server(tmp_path, hostile_dir, image_dir):
    with up(tmp_path / "data", *ALL_ADDRESSES, cwd=hostile_dir) as (process, ready):
        assert ready["url"].startswith("http://[::1]:" if ALL_ADDRESSES else "http://127.0.0.1:")
        run = sortbelt(ready, "submit", image_dir / "a.png", "--wait")
        dispatcher = waiting.wait_until(lambda: child(process, "dispatcher"))

    assert run.returncode == 0, run.stderr
    assert dispatcher is not None
    assert not (hostile_dir / "hijacked").exists()


def test_the_api_by_itself_runs_from_any_folder(hostile_dir):
    environ = {**clean_environment(), "SORTBELT_PORT": "many"}
    run = subprocess.run(
        [sys.executable, "-P", "-m", "api"], cwd=hostile_dir, env=environ, capture_output=True, text=True, check=False
    )

    assert run.returncode == 2
    assert "SORTBELT_PORT" in run.stderr
    assert not (hostile_dir / "hijacked").exists()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_it_listens_on_ipv6(tmp_path, image_dir):
    with up(tmp_path / "data", "--host", "[::1]") as (_, ready):
        assert ready["url"].startswith("http://[::1]:")
        run = sortbelt(ready, "submit", image_dir / "a.png", "--wait")

    assert run.returncode == 0, run.stderr


def test_a_client_on_this_machine_finds_it_by_the_data_folder(stack):
    words = [sys.executable, "-m", "sortbelt", "keys", "list", "--json", "--data-dir", stack[1]["data_dir"]]
    run = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, check=True)

    assert json.loads(run.stdout)["keys"][0]["role"] == "admin"


def test_a_new_key_is_accepted_until_it_is_revoked(stack):
    key = json.loads(sortbelt(stack[1], "keys", "create", "camera", "--json").stdout)
    camera = {**stack[1], "key": key["key"]}
    before = sortbelt(camera, "status", "00000000-0000-7000-8000-000000000000")
    sortbelt(stack[1], "keys", "revoke", key["id"])

    assert "There is no job" in before.stderr
    waiting.wait_until(lambda: "SORTBELT_KEY" in sortbelt(camera, "status", "x").stderr)


def test_unknown_and_malformed_jobs_are_not_found(stack):
    for job in ("00000000-0000-7000-8000-000000000000", "x", "%00", "🍣"):
        run = sortbelt(stack[1], "status", job)

        assert (run.returncode, run.stdout) == (2, "")
        assert len(run.stderr.splitlines()) == 1


def test_a_second_one_on_the_folder_is_refused(stack):
    process, report = stack
    run = subprocess.run([*UP, "--data-dir", report["data_dir"]], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stdout) == (2, "")
    assert f"(pid {process.pid}) at {report['url']}" in run.stderr


def test_a_worker_that_is_killed_is_replaced_and_the_work_goes_on(stack, image_dir):
    process, report = stack
    first = child(process, "worker1@")
    first.kill()

    run = sortbelt(report, "enqueue", image_dir, "--json")

    assert json.loads(run.stdout)["counts"]["done"] == 3
    waiting.wait_until(lambda: child(process, "worker1@") not in (None, first))


def test_without_redis_the_work_goes_on_until_it_is_back(stack, image_dir):
    process, report = stack
    child(process, "redis-server").kill()

    run = sortbelt(report, "enqueue", image_dir, "--json")

    assert json.loads(run.stdout)["counts"]["done"] == 3
    waiting.wait_until(lambda: child(process, "redis-server"))


def test_after_kill_9_no_orphans_are_left_and_the_next_start_goes_on_with_the_work(tmp_path, image_dir):
    with up(tmp_path / "data") as (process, first):
        all_of_it = children(process)
        with Client(first["url"], first["key"]) as client:
            job = client.submit(
                [image_dir / "a.png"] + [(str(n), (image_dir / "b.jpg").read_bytes()) for n in range(100)]
            )
        process.kill()
        assert psutil.wait_procs(all_of_it, timeout=waiting.TIMEOUT_SECONDS)[1] == []

    port = first["url"].rpartition(":")[2]
    with up(tmp_path / "data", "--port", port) as (process, second), Client(first["url"], first["key"]) as client:
        assert second == first
        ended = client.wait(job.id, timeout=waiting.TIMEOUT_SECONDS)
        results = list(client.results(job.id))
        all_of_it = children(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=waiting.TIMEOUT_SECONDS) == 0
        assert psutil.wait_procs(all_of_it, timeout=waiting.TIMEOUT_SECONDS)[1] == []

    assert ended.counts.done == 101
    assert len({result.image for result in results}) == len(results) == 101
    assert not (tmp_path / "data" / "up.json").exists()


def test_ctrl_c_while_it_starts_stops_all_that_was_started(tmp_path):
    words = [*UP, "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(words, env=clean_environment(), stdout=subprocess.PIPE) as process:
        waiting.wait_until(lambda: len(children(process)) >= 3)
        all_of_it = children(process)
        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=waiting.TIMEOUT_SECONDS) == 0
        assert psutil.wait_procs(all_of_it, timeout=waiting.TIMEOUT_SECONDS)[1] == []
        assert process.stdout.read() == b""


def test_a_command_after_the_dashes_runs_while_all_is_up_and_gives_the_exit_code(tmp_path, image_dir):
    words = [*UP[:-1], "--data-dir", str(tmp_path / "data"), "--", sys.executable, "-m", "sortbelt"]
    run = subprocess.run(
        [*words, "enqueue", str(image_dir), "--json"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1, run.stderr
    assert json.loads(run.stdout)["counts"]["done"] == 3


def refused(*options, **environ):
    words = [sys.executable, "-m", "sortbelt", "up", *map(str, options)]
    run = subprocess.run(
        words, env={**clean_environment(), **environ}, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    return run.returncode, run.stderr.strip().splitlines()[-1]


def test_a_port_in_use_is_said_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = refused("--port", taken.getsockname()[1], "--data-dir", tmp_path / "data")

    assert code == 2
    assert "--port 0" in said
    assert not (tmp_path / "data" / "sortbelt.db").exists()


def test_a_data_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    code, said = refused("--port", 0, "--data-dir", tmp_path / "file")

    assert code == 2
    assert "--data-dir" in said


def test_a_database_that_cannot_be_reached_is_exit_code_3(tmp_path):
    url = "postgresql+psycopg://unknown@127.0.0.1:1/nothing"
    code, said = refused("--port", 0, "--data-dir", tmp_path / "data", "--database-url", url)

    assert code == 3
    assert "SORTBELT_DATABASE_URL" in said


def test_an_unknown_setting_is_named(tmp_path):
    code, said = refused("--port", 0, "--data-dir", tmp_path / "data", SORTBELT_DATABSE_URL="x")

    assert code == 2
    assert "SORTBELT_DATABSE_URL" in said


def test_a_bad_value_is_named(tmp_path):
    code, said = refused("--port", 0, "--data-dir", tmp_path / "data", SORTBELT_BATCH_SIZE="many")

    assert code == 2
    assert "SORTBELT_BATCH_SIZE" in said


def test_a_worker_that_cannot_start_stops_everything_and_its_log_is_shown(tmp_path):
    code, said = refused("--port", 0, "--data-dir", tmp_path / "data", SORTBELT_BUNDLES=str(tmp_path))

    assert code == 1
    assert "the worker cannot start" in said


def test_the_database_can_be_upgraded_by_itself(tmp_path):
    words = [sys.executable, "-m", "sortbelt", "db", "upgrade", "--data-dir", str(tmp_path / "data")]
    run = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert (tmp_path / "data" / "sortbelt.db").exists()
