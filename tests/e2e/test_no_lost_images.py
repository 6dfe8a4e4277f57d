"""Kill each process while a folder is classified: every image gets exactly one result."""

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.conftest import REPOSITORY, wait_until
from tests.support import servers

pytestmark = pytest.mark.timeout(900)  # each waits several times for minutes
SHORT_INTERVALS = {"batch_size": 8, "lease_seconds": 2, "idle_poll_seconds": 0.5}


def start_enqueue(stack, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "sortbelt", "enqueue", str(folder), "--json"],
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )


def done_count(stack):
    with stack.client() as client:
        return sum(job["counts"]["done"] for job in client.get("/v1/jobs").json()["jobs"])


def assert_one_result_per_image(stack, stdout, count):
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["counts"]["done"] == summary["counts"]["total"] == count
    names = [result["image"] for result in stack.results(summary["job_id"])]
    assert sorted(names) == [f"{number:05}.png" for number in range(count)]
    environment = {
        **os.environ,
        "SORTBELT_DATABASE_URL": f"sqlite:///{stack.data_dir}/sortbelt.db",
        "SORTBELT_BLOB_STORE": str(stack.data_dir / "blobs"),
    }
    command = [sys.executable, "-m", "core.maintenance.doctor", "--json"]
    doctor = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    findings = {finding["check"]: finding for finding in map(json.loads, doctor.stdout.splitlines())}
    for check in (
        "finished images without result",
        "results of unfinished images",
        "miscounted jobs",
        "complete but unfinished jobs",
    ):
        assert findings[check]["ok"], findings[check]


def test_workers_are_killed_repeatedly(start_stack, make_image_folder):
    """SIGKILL both workers three times: no image is lost or duplicated."""
    stack = start_stack("--workers", "2", **SHORT_INTERVALS, max_attempts=50)
    with start_enqueue(stack, make_image_folder(300)) as process:
        for min_done in (0, 80, 160):
            wait_until(
                lambda min_done=min_done: stack.children("worker.app") and done_count(stack) >= min_done,
                60,
                f"{min_done} images are done",
            )
            for worker in stack.children("worker.app"):
                worker.kill()
        stdout, _ = process.communicate(timeout=500)
    assert process.returncode == 0
    assert_one_result_per_image(stack, stdout, 300)


def test_redis_is_killed_and_not_restarted(start_stack, make_image_folder):
    """SIGKILL Redis for good: the workers find the remaining images by polling."""
    with servers.run_redis() as (url, redis):
        stack = start_stack("--redis-url", url, **SHORT_INTERVALS)
        with start_enqueue(stack, make_image_folder(400)) as process:
            wait_until(lambda: done_count(stack) >= 40, 60, "the first images are done")
            redis.kill()
            stdout, _ = process.communicate(timeout=500)
    assert process.returncode == 0
    assert_one_result_per_image(stack, stdout, 400)


def test_the_api_is_killed_during_the_upload(start_stack, make_image_folder):
    """SIGKILL the API during the upload: the command retries, and no image is duplicated."""
    stack = start_stack(**SHORT_INTERVALS)
    with start_enqueue(stack, make_image_folder(400)) as process:
        wait_until(lambda: done_count(stack) >= 20, 60, "the first images are done")
        for api in stack.children("-m api"):
            for child in [*api.children(recursive=True), api]:
                child.kill()
        stdout, _ = process.communicate(timeout=500)
    assert process.returncode == 0
    assert_one_result_per_image(stack, stdout, 400)


def test_a_restarted_stack_finishes_open_jobs(start_stack, make_image_folder):
    """SIGKILL the supervisor with images queued; a new stack on the same data folder finishes the job."""
    stack = start_stack(**SHORT_INTERVALS)
    folder = make_image_folder(300)
    job = json.loads(stack.run_sortbelt("enqueue", str(folder), "--no-wait", "--json").stdout.splitlines()[-1])
    first_pid = stack.process.pid
    stack.process.kill()
    stack.process.wait()
    restarted = start_stack(data_dir=stack.data_dir, **SHORT_INTERVALS)
    assert restarted.process.pid != first_pid
    assert restarted.key == stack.key
    waited = restarted.run_sortbelt("wait", job["job_id"], "--json")
    assert waited.returncode == 0, waited.stderr
    assert len(restarted.results(job["job_id"])) == 300
