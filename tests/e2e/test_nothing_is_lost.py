"""Kill what can be killed while a folder goes through: each picture gets exactly one result."""

import json
import os
import subprocess
import sys

import pytest

from tests import servers
from tests.e2e.conftest import REPOSITORY, until

pytestmark = pytest.mark.timeout(900)  # what they wait for, each in its time, is more than three minutes together
SLOW = {"batch_size": 8, "lease_seconds": 2, "idle_ring_seconds": 0.5}


def enqueue(stack, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "sortbelt", "enqueue", str(folder), "--json"],
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )


def done(stack):
    with stack.client() as client:
        return sum(job["counts"]["done"] for job in client.get("/v1/jobs").json()["jobs"])


def assert_each_has_one_result(stack, out, count):
    last = json.loads(out.splitlines()[-1])
    assert last["counts"]["done"] == last["counts"]["total"] == count
    names = [result["image"] for result in stack.results(last["job_id"])]
    assert sorted(names) == [f"{number:05}.png" for number in range(count)]
    environment = {
        **os.environ,
        "SORTBELT_DATABASE_URL": f"sqlite:///{stack.data_dir}/sortbelt.db",
        "SORTBELT_BLOBS": str(stack.data_dir / "blobs"),
    }
    command = [sys.executable, "-m", "jobs.doctor", "--json"]
    doctor = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    findings = {finding["check"]: finding for finding in map(json.loads, doctor.stdout.splitlines())}
    for check in ("ended images without result", "results of open images", "miscounted jobs", "complete but open jobs"):
        assert findings[check]["ok"], findings[check]


def test_workers_killed_again_and_again(start, folder):
    """Kill -9 of both workers, three times while a folder goes through: nothing is lost, nothing is there twice."""
    stack = start("--workers", "2", **SLOW, max_attempts=50)
    with enqueue(stack, folder(300)) as process:
        for least in (0, 80, 160):
            until(lambda least=least: stack.children("worker.app") and done(stack) >= least, 60, f"{least} are done")
            for worker in stack.children("worker.app"):
                worker.kill()
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert_each_has_one_result(stack, out, 300)


def test_redis_killed_and_never_started_again(start, folder):
    """The bell is gone for good in the middle of a folder: workers look for work by themselves, and it ends."""
    with servers.redis() as (url, redis):
        stack = start("--redis-url", url, **SLOW)
        with enqueue(stack, folder(400)) as process:
            until(lambda: done(stack) >= 40, 60, "the first pictures")
            redis.kill()
            out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert_each_has_one_result(stack, out, 400)


def test_api_killed_in_the_middle(start, folder):
    """Kill -9 of the API while a folder is sent: the command tries again, and no picture is there twice."""
    stack = start(**SLOW)
    with enqueue(stack, folder(400)) as process:
        until(lambda: done(stack) >= 20, 60, "the first pictures")
        for api in stack.children("-m api"):
            for child in [*api.children(recursive=True), api]:
                child.kill()
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert_each_has_one_result(stack, out, 400)


def test_a_second_start_goes_on_with_unfinished_jobs(start, folder):
    """Kill -9 of everything with work queued; started again on the same folder, the job is finished."""
    stack = start(**SLOW)
    pictures = folder(300)
    job = json.loads(stack.sortbelt("enqueue", str(pictures), "--no-wait", "--json").stdout.splitlines()[-1])
    family = stack.process.pid
    stack.process.kill()
    stack.process.wait()
    again = start(data_dir=stack.data_dir, **SLOW)
    assert again.process.pid != family
    assert again.key == stack.key
    waited = again.sortbelt("wait", job["job_id"], "--json")
    assert waited.returncode == 0, waited.stderr
    assert len(again.results(job["job_id"])) == 300
