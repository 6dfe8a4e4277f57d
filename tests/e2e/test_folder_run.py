"""A folder run against the real stack: killed, gone on with, sorted."""

import json
import random
import subprocess
import sys
import time

from tests.e2e.conftest import REPOSITORY, until

ODD = ["100%.png", 'say "hi".png', "back\\slash.png", "1.23.45\u202fPM.png", "寿司 *.png", "=1+@.png"]


def jobs(stack):
    with stack.client() as client:
        return client.get("/v1/jobs").json()["jobs"]


def test_a_killed_run_goes_on_in_the_same_job_and_ends_in_sorted_folders(start, folder, tmp_path):
    """Kill -9 of the enqueuer three times on the way: one job, one result for each picture, each in one place.

    Whatever the pictures are called.
    """
    stack = start()
    pictures, dice = folder(300), random.Random(3)  # noqa: S311 (nothing secret)
    for path, odd in zip(sorted(pictures.iterdir()), ODD, strict=False):
        path.rename(pictures / odd)
    names = sorted(path.name for path in pictures.iterdir())
    command = [sys.executable, "-m", "sortbelt", "enqueue", str(pictures), "--json"]
    options = {"env": stack.environment, "cwd": REPOSITORY, "text": True}
    for _ in range(3):
        had = sum(job["counts"]["total"] for job in jobs(stack))
        with subprocess.Popen(command, **options, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            until(
                lambda run=run, had=had: run.poll() is not None or sum(j["counts"]["total"] for j in jobs(stack)) > had,
                60,
                "more pictures are in the job, or all were there",
            )
            time.sleep(dice.uniform(0, 0.1))
            run.kill()
    last = json.loads(stack.sortbelt("enqueue", str(pictures), "--json").stdout.splitlines()[-1])

    assert [job["id"] for job in jobs(stack)] == [last["job_id"]]
    assert last["counts"]["done"] == last["counts"]["total"] == 300
    assert sorted(r["image"] for r in stack.results(last["job_id"])) == names

    sort = stack.sortbelt("sort", str(pictures), "--into", str(tmp_path / "out"), "--link", "--json")
    assert sort.returncode == 0, sort.stderr
    assert json.loads(sort.stdout)["outcomes"] == {"placed": 300}
    assert len(list((tmp_path / "out").rglob("*.png"))) == 300
