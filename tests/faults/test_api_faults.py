"""The API killed at the worst moment, rolling restarts, revoked keys, wrong clocks and failing logs."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from core.db.queries import api_keys
from tests.faults.stack import REPOSITORY, TIMEOUT_FACTOR, make_image
from tests.support import factories


def test_the_api_killed_between_blobs_and_rows(stack_per_database):
    """Row 6: no job is visible; a retry under the same key creates one, and it is finished."""
    stack = stack_per_database
    stack.start_api(f"dies_before_rows:{stack.folder}/once")
    files = stack.new_files(4)
    with stack.client() as client, pytest.raises(httpx.TransportError):
        stack.post(client, files, key="k")
    stack.api.wait(60)
    assert any(path.is_file() for path in stack.blobs.rglob("*"))
    assert stack.db.read(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM jobs").scalar()) == 0
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, files, key="k").status_code == 202
    stack.start_workers(1)
    stack.wait_until_settled(30)


def test_the_api_killed_between_rows_and_wakeup(stack_per_database):
    """Row 7: without a wake-up or a response the job is done; a retry under the same key returns it."""
    stack = stack_per_database
    stack.start_redis()
    stack.start_workers(1)
    stack.start_api(f"dies_before_wakeup:{stack.folder}/once")
    files = stack.new_files(4)
    with stack.client() as client, pytest.raises(httpx.TransportError):
        stack.post(client, files, key="k")
    stack.wait_until(lambda: stack.finished_count() == 4, 20, "the unacknowledged job is done")
    stack.api.wait(60)
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, files, key="k").json()["counts"]["done"] == 4
    stack.wait_until_settled()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_api_child_ends_the_api(make_stack, fresh_postgres_url, processes):
    """Row 7: a serving process is killed, its parent is not; the parent ends, so that all are restarted."""
    stack = make_stack(fresh_postgres_url, api_processes=processes)
    stack.start_api()
    children = [
        child
        for child in psutil.Process(stack.api.pid).children()
        if "resource_tracker" not in " ".join(child.cmdline())
    ]
    assert len(children) == processes
    children[0].kill()
    assert stack.api.wait(60) is not None
    stack.start_api()
    with concurrent.futures.ThreadPoolExecutor(8) as pool, stack.client() as client:
        responses = pool.map(lambda files: stack.post(client, files), [stack.new_files(1) for _ in range(16)])
        assert {response.status_code for response in responses} == {202}
    stack.start_workers(1)
    stack.wait_until_settled(30)


@pytest.mark.parametrize("killed", ["the API", "its serving process"])
def test_a_killed_api_leaves_no_thumbnail_server(make_stack, fresh_postgres_url, killed):
    """Row 46: the server that an image has started ends with the API, however that is killed."""
    stack = make_stack(fresh_postgres_url, model=factories.MODEL)
    stack.start_api()
    with stack.client() as client:
        job = stack.post(client, stack.new_files(1)).json()
        factories.complete_claims(stack.db, factories.claim_images(stack.db))
        image = client.get(f"/v1/jobs/{job['id']}/results").json()["results"][0]["image_id"]
        assert client.get(f"/v1/images/{image}/thumbnail").status_code == 200
    api = psutil.Process(stack.api.pid)
    (thumbnail_server,) = [
        process for process in api.children(recursive=True) if "api.services.thumbnail_server" in process.cmdline()
    ]
    (api if killed == "the API" else thumbnail_server.parent()).kill()
    stack.api.wait(60)
    stack.wait_until(lambda: has_ended(thumbnail_server), 20, "the thumbnail server has ended")


def has_ended(process):
    """Return whether a process has ended; it may be a zombie, which no process waits for."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_concurrent_retries_under_one_key(stack_per_database):
    """Row 8: five concurrent requests under one key give one job; another body under that key is rejected."""
    stack = stack_per_database
    stack.start_api()
    files = stack.new_files(6)
    with stack.client() as client:
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            responses = list(pool.map(lambda _: stack.post(client, files, key="k"), range(5)))
        assert {response.status_code for response in responses} == {202}
        assert len({response.json()["id"] for response in responses}) == 1
        assert stack.post(client, stack.new_files(1), key="k").status_code == 422
    stack.start_workers(1)
    stack.wait_until_settled(30)


def test_a_key_revoked_under_load(stack):
    """Row 35: its next request gets a 401; other keys are not affected, and accepted jobs are finished."""
    stack.start_api()
    stack.start_workers(1)
    from core import enums

    revoked_key = api_keys.generate()
    row = stack.db.write(api_keys.create, "revoked", enums.Role.SUBMIT, revoked_key)
    with (
        stack.submission_stream(2) as stream,
        stack.client(headers={"Authorization": f"Bearer {revoked_key}"}) as client,
    ):
        assert stack.post(client, stack.new_files(3)).status_code == 202
        stack.db.write(api_keys.revoke, row.id)
        started = time.monotonic()
        stack.wait_until(lambda: stack.post(client, stack.new_files(3)).status_code == 401, 30, "the key is rejected")
        print(f"a revoked key was rejected {time.monotonic() - started:.2f} s later")
    assert stream.statuses() == {202}
    stack.wait_until_settled(30)


@pytest.mark.parametrize("sink", ["/dev/full", "a closed pipe"])
def test_logs_that_cannot_be_written(stack, sink):
    """Row 37: the disk of the logs is full, or their reader has ended; work goes on."""
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
        from tests.support import servers

        servers.wait_for_port(stack.port, 120)
        with stack.client() as client:
            assert stack.post(client, [*stack.new_files(5), ("bad.png", b"\x89PNG\r\n\x1a\n")]).status_code == 202
        stack.wait_until(lambda: stack.finished_count() == 6, 60, "all is done")
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
    """Row 31: the API's clock and a worker's are wrong in opposite directions: leases go by the database's clock.

    The wrong clock is installed inside each process, in place of `time.time`.
    """
    stack.start_redis()
    stack.start_api(f"clock:{seconds}")
    wrong = stack.folder / "wrong.log"
    with wrong.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.fault_points", "worker", "--loglevel", "WARNING"],
            env=stack.environ(f"clock:{-seconds}"),
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
        )
    try:
        stack.wait_until(lambda: len(stack.live_workers()) == 1, 60, "the worker with the wrong clock is alive")
        stack.start_workers(1)
        with stack.submission_stream(4) as stream:
            stack.wait_until(lambda: stack.finished_count() >= 80, 40, "work is done")
        assert stream.statuses() == {202}
        stack.wait_until_settled(30)
        assert set(stack.attempts().values()) == {1}
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()


def test_ten_concurrent_reapers(stack):
    """Row 30: ten reapers find the images of a killed worker; each image is requeued once."""
    import threading

    from core.db import database
    from core.maintenance import reaper
    from tests.support import factories

    stack.submit(200)
    stack.start_worker(f"dies_after_claim:{stack.folder}/once", batch_size=200).wait_for_exit()
    requeued, others = [], [database.Database(stack.database_url) for _ in range(10)]
    barrier = threading.Barrier(10)

    def reap(db):
        barrier.wait()
        deadline = time.monotonic() + 4 * TIMEOUT_FACTOR
        while time.monotonic() < deadline and sum(requeued) < 200:
            requeued.append(reaper.reap(db, max_attempts=3))

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(reap, others))
    assert sum(requeued) == 200
    assert set(factories.image_states(stack.db).values()) == {("queued", 1)}
    for db in others:
        db.close()
    stack.start_workers(2)
    stack.wait_until_settled(30)
    assert max(stack.attempts().values()) == 2


def test_a_rolling_restart_under_load(stack):
    """Row 32: ten SIGTERMs to workers and API in turn, under load: no request fails, and nothing is lost."""
    stack.settings |= {"batch_size": 8}
    stack.start_redis()
    stack.start_api()
    workers = stack.start_workers(2)
    failures = []
    with stack.submission_stream(4, pause=0.1, retry=True) as stream:
        for turn in range(10):
            if turn % 5 == 4:
                stack.api.send_signal(signal.SIGTERM)
                assert stack.api.wait(60) == 0
                stack.start_api()
                continue
            index = turn % 2
            leaving = workers[index]
            leaving.signal(signal.SIGTERM)
            assert leaving.wait_for_exit(25) == 0
            orphaned = [row for row in stack.claiming_workers() if row not in {row.id for row in stack.live_workers()}]
            failures += orphaned
            workers[index] = stack.start_worker()
            stack.wait_until(lambda index=index: stack.is_registered(workers[index]), 30, "the new worker is alive")
    assert stream.statuses() == {202}
    assert failures == []
    stack.wait_until_settled(30)
    assert max(stack.attempts().values()) == 1
    print(f"{len(stream.responses)} requests, {sum(map(len, stack.accepted_jobs.values()))} images")


@pytest.mark.parametrize("seconds", [0.3, 1, 2])
def test_a_worker_stopped_while_it_starts(stack, seconds):
    """Row 32: before Celery handles SIGTERM, images may be claimed already; they are handed back."""
    stack.settings |= {"lease_seconds": 60}
    stack.submit(200)
    worker = stack.start_worker()
    if seconds == 2:
        stack.wait_until(stack.running_count, 20, "it has claimed")
    else:
        time.sleep(seconds)
    worker.signal(signal.SIGTERM)
    assert worker.wait_for_exit(25) in (0, -signal.SIGTERM)
    assert stack.running_count() == 0
    assert stack.attempts_of("queued") <= {0}


def test_claimed_images_not_yet_decoded_are_handed_back_at_once(stack):
    """Row 32: a worker stops during a slow batch: images that no decoder has started are queued within seconds."""
    stack.settings |= {"lease_seconds": 60, "batch_size": 64}
    slow = [make_image(n) for n in range(40)]
    stack.submit(0, *((f"{n}.png", data) for n, data in enumerate(slow)))
    for data in slow:
        stack.block_reads(data)
    (worker,) = stack.start_workers(1, decode_seconds=1.5)
    stack.wait_until(stack.running_count, 10, "it has claimed")
    worker.signal(signal.SIGTERM)
    assert worker.wait_for_exit(25) == 0
    assert stack.running_count() == 0
    queued = [attempt for attempt in stack.attempts().values() if attempt == 0]
    assert len(queued) >= 30
