"""Enqueue a folder on a real stack: killed, resumed, sorted by label."""

import json
import random
import subprocess
import sys
import time

from sortbelt.files import file_names
from tests.e2e.conftest import REPOSITORY, wait_until

UNUSUAL_NAMES = ["100%.png", 'say "hi".png', "back\\slash.png", "1.23.45\u202fPM.png", "寿司 *.png", "=1+@.png"]


def list_jobs(stack):
    with stack.client() as client:
        return client.get("/v1/jobs").json()["jobs"]


def test_a_killed_run_resumes_its_job_and_can_be_sorted_by_label(start_stack, make_image_folder, tmp_path):
    """SIGKILL the enqueuer three times: one job, one result per image, and each file in one label folder.

    The file names include shell, CSV and Unicode special characters.
    """
    stack = start_stack()
    folder, rng = make_image_folder(300), random.Random(3)  # noqa: S311 (not a secret)
    for path, name in zip(sorted(folder.iterdir()), UNUSUAL_NAMES, strict=False):
        path.rename(folder / name)
    names = sorted(path.name for path in folder.iterdir())
    command = [sys.executable, "-m", "sortbelt", "enqueue", str(folder), "--json"]
    options = {"env": stack.environment, "cwd": REPOSITORY, "text": True}
    for _ in range(3):
        previous = sum(job["counts"]["total"] for job in list_jobs(stack))
        with subprocess.Popen(command, **options, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            wait_until(
                lambda run=run, previous=previous: (
                    run.poll() is not None or sum(job["counts"]["total"] for job in list_jobs(stack)) > previous
                ),
                60,
                "the job has more images, or the run has ended",
            )
            time.sleep(rng.uniform(0, 0.1))
            run.kill()
    summary = json.loads(stack.run_sortbelt("enqueue", str(folder), "--json").stdout.splitlines()[-1])

    assert [job["id"] for job in list_jobs(stack)] == [summary["job_id"]]
    assert summary["counts"]["done"] == summary["counts"]["total"] == 300
    images = [file_names.unescape_name(r["image"]) for r in stack.results(summary["job_id"])]
    assert sorted(images) == names

    sort = stack.run_sortbelt("sort", str(folder), "--into", str(tmp_path / "out"), "--link", "--json")
    assert sort.returncode == 0, sort.stderr
    assert json.loads(sort.stdout)["outcomes"] == {"placed": 300}
    assert len(list((tmp_path / "out").rglob("*.png"))) == 300
