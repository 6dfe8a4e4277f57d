"""The API killed at the worst moment, asked twice, stopped in turn; keys that end; clocks and logs that fail."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from jobs.store import keys
from tests.faults.stack import REPOSITORY, SLACK, picture


def test_the_api_killed_between_pictures_and_rows(either):
    """Row 6: no job is seen; a repeat under the same key makes one, and all of it is done."""
    stack = either
    stack.start_api(f"dies_before_rows:{stack.folder}/once")
    files = stack.files(4)
    with stack.client() as client, pytest.raises(httpx.TransportError):
        stack.post(client, files, key="k")
    stack.api.wait(60)
    assert any(path.is_file() for path in stack.blobs.rglob("*"))
    assert stack.db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM jobs").scalar()) == 0
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, files, key="k").status_code == 202
    stack.start_workers(1)
    stack.settle(30)


def test_the_api_killed_between_rows_and_bell(either):
    """Row 7: nobody was rung and nobody answered, and the job is done; a repeat under the same key is that job."""
    stack = either
    stack.start_redis()
    stack.start_workers(1)
    stack.start_api(f"dies_before_bell:{stack.folder}/once")
    files = stack.files(4)
    with stack.client() as client, pytest.raises(httpx.TransportError):
        stack.post(client, files, key="k")
    stack.until(lambda: stack.done() == 4, 20, "the job that nobody was told of is done")
    stack.api.wait(60)
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, files, key="k").json()["counts"]["done"] == 4
    stack.settle()


def test_the_api_s_own_child_killed(stack):
    """Row 7, half of it: the process that serves is killed, its parent is not; it ends, so that it is started again."""
    import psutil

    stack.start_api()
    for child in psutil.Process(stack.api.pid).children():
        if "resource_tracker" not in " ".join(child.cmdline()):
            child.kill()
    assert stack.api.wait(60) is not None
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, stack.files(1)).status_code == 202
    stack.start_workers(1)
    stack.settle(30)


def test_a_client_that_asks_again_and_again(either):
    """Row 8: five times at once under one key is one job; another body under that key is refused."""
    stack = either
    stack.start_api()
    files = stack.files(6)
    with stack.client() as client:
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _: stack.post(client, files, key="k"), range(5)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert stack.post(client, stack.files(1), key="k").status_code == 422
    stack.start_workers(1)
    stack.settle(30)


def test_a_key_revoked_in_the_middle(stack):
    """Row 35: its next request is a 401; others notice nothing, and what was accepted is done."""
    stack.start_api()
    stack.start_workers(1)
    from jobs import tables

    theirs = keys.make()
    row = stack.db.write(keys.create, "theirs", tables.Role.SUBMIT, theirs)
    with stack.stream(2) as stream, stack.client(headers={"Authorization": f"Bearer {theirs}"}) as client:
        assert stack.post(client, stack.files(3)).status_code == 202
        stack.db.write(keys.revoke, row.id)
        started = time.monotonic()
        stack.until(lambda: stack.post(client, stack.files(3)).status_code == 401, 30, "the key is refused")
        print(f"a revoked key was refused {time.monotonic() - started:.2f} s later")
    assert stream.statuses() == {202}
    stack.settle(30)


@pytest.mark.parametrize("sink", ["/dev/full", "a closed pipe"])
def test_logs_that_nobody_takes(stack, sink):
    """Row 37: the disk of the logs is full, or their reader is dead; work goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    target = writer if sink == "a closed pipe" else os.open("/dev/full", os.O_WRONLY)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *module], env=stack.environ(), stdout=target, stderr=target, cwd=REPOSITORY
        )
        for module in (["api"], ["worker", "--loglevel", "DEBUG"])
    ]
    try:
        from tests import servers

        servers.wait_for_port(stack.port, 120)
        with stack.client() as client:
            assert stack.post(client, [*stack.files(5), ("bad.png", b"\x89PNG\r\n\x1a\n")]).status_code == 202
        stack.until(lambda: stack.done() == 6, 60, "all is done")
        time.sleep(1)
        assert [process.poll() for process in processes] == [None, None]
        for process in processes:
            process.terminate()
        assert [process.wait(90) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for descriptor in {writer, target}:
            os.close(descriptor)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_clocks_that_are_an_hour_wrong(stack, seconds):
    """Row 31: the API's one way, a worker's the other: leases are by the database's clock, nothing is taken twice.

    Without libfaketime the wrong clock is set inside each process, where it asks for the time.
    """
    stack.start_redis()
    stack.start_api(f"clock:{seconds}")
    wrong = stack.folder / "wrong.log"
    with wrong.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.points", "worker", "--loglevel", "WARNING"],
            env=stack.environ(f"clock:{-seconds}"),
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
        )
    try:
        stack.until(lambda: len(stack.living()) == 1, 60, "the worker with the wrong clock shows life")
        stack.start_workers(1)
        with stack.stream(4) as stream:
            stack.until(lambda: stack.done() >= 80, 40, "work is done")
        assert stream.statuses() == {202}
        stack.settle(30)
        assert set(stack.attempts().values()) == {1}
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()


def test_ten_workers_that_sweep_at_once(stack):
    """Row 30: ten processes' worth of sweepers find what a killed worker held; each image is taken up once."""
    import threading

    from jobs import database, rescue
    from tests.jobs import making

    stack.submit(200)
    stack.start_worker(f"dies_after_claim:{stack.folder}/once", batch_size=200).ended()
    found, others = [], [database.Database(stack.database_url) for _ in range(10)]
    barrier = threading.Barrier(10)

    def sweep(db):
        barrier.wait()
        deadline = time.monotonic() + 4 * SLACK
        while time.monotonic() < deadline and sum(found) < 200:
            found.append(rescue.sweep(db, max_attempts=3))

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(sweep, others))
    assert sum(found) == 200
    assert set(making.images(stack.db).values()) == {("queued", 1)}
    for db in others:
        db.close()
    stack.start_workers(2)
    stack.settle(30)
    assert max(stack.attempts().values()) == 2


def test_a_rolling_restart_under_load(stack):
    """Row 32: ten times SIGTERM, workers and API in turn, while pictures come in: no request fails, nothing is lost."""
    stack.settings |= {"batch_size": 8}
    stack.start_redis()
    stack.start_api()
    workers = stack.start_workers(2)
    failures = []
    with stack.stream(4, retry=True) as stream:
        for turn in range(10):
            if turn % 5 == 4:
                stack.api.send_signal(signal.SIGTERM)
                assert stack.api.wait(60) == 0
                stack.start_api()
                continue
            place = turn % 2
            leaving = workers[place]
            leaving.signal(signal.SIGTERM)
            assert leaving.ended(25) == 0
            held = [row for row in stack.holders() if row not in {row.id for row in stack.living()}]
            failures += held
            workers[place] = stack.start_worker()
            stack.until(lambda place=place: stack.lives(workers[place]), 30, "the new worker shows life")
    assert stream.statuses() == {202}
    assert failures == []
    stack.settle(30)
    assert max(stack.attempts().values()) == 1
    print(f"{len(stream.answers)} requests, {sum(map(len, stack.accepted.values()))} pictures")


@pytest.mark.parametrize("seconds", [0.3, 1, 2])
def test_a_worker_stopped_while_it_starts(stack, seconds):
    """Row 32: before Celery listens for SIGTERM, work may have been claimed already; it is handed back all the same."""
    stack.settings |= {"lease_seconds": 60}
    stack.submit(200)
    worker = stack.start_worker()
    if seconds == 2:
        stack.until(stack.running, 20, "it has claimed")
    else:
        time.sleep(seconds)
    worker.signal(signal.SIGTERM)
    assert worker.ended(25) in (0, -signal.SIGTERM)
    assert stack.running() == 0
    assert stack.attempts_of("queued") <= {0}


def test_what_is_claimed_and_not_begun_is_handed_back_at_once(stack):
    """Row 32: a slow batch is told to stop: what no decoder has begun is free within a second or two."""
    stack.settings |= {"lease_seconds": 60, "batch_size": 64}
    slow = [picture(n) for n in range(40)]
    stack.submit(0, *((f"{n}.png", data) for n, data in enumerate(slow)))
    for data in slow:
        stack.blob(data).unlink()
        os.mkfifo(stack.blob(data))
    (worker,) = stack.start_workers(1, decode_seconds=1.5)
    stack.until(stack.running, 10, "it has claimed")
    worker.signal(signal.SIGTERM)
    assert worker.ended(25) == 0
    assert stack.running() == 0
    queued = [attempt for attempt in stack.attempts().values() if attempt == 0]
    assert len(queued) >= 30
