"""The life of a model on a real stack: train, evaluate, add, shadow, promote, roll back."""

import json
import os
import random
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa
from PIL import Image, ImageDraw

from core.db import database
from tests.e2e.conftest import REPOSITORY, wait_until
from tests.support import bundles, image_files

pytestmark = pytest.mark.timeout(1800)  # each starts many processes, one after another
IMAGES_PER_JOB = 24
SHAPES = ("circle", "cross", "square")
# Claims with results of two versions; on SQLite, all images of one claim have the same `claimed_at`.
MIXED_CLAIMS_QUERY = """
SELECT images.worker, images.claimed_at FROM results JOIN images ON images.id = results.image_id
WHERE NOT results.cached GROUP BY images.worker, images.claimed_at HAVING count(DISTINCT results.model_digest) > 1
"""


def run_json(stack, *arguments):
    """Run a `sortbelt` command that must succeed; return its JSON."""
    run = stack.run_sortbelt(*arguments, "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def served_versions(stack):
    """Return the version that each worker serves, by (model, worker)."""
    with stack.client() as client:
        rows = client.get("/v1/models").json()["models"]
    return {(row["name"], worker): row["version"] for row in rows for worker in row["served_by"]}


def images_by_version(stack, job):
    """Return the images that each version has classified; each version has exactly one digest."""
    images = {}
    for result in stack.results(job):
        model = result["model"]
        images.setdefault((model["name"], model["version"], model["digest"]), []).append(result["image"])
    assert len({version for _, version, _ in images}) == len(images)
    return {version: names for (_, version, _), names in images.items()}


def run_model_module(*arguments):
    """Run a module of the model package to its end; return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    run = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def draw_shape(shape, rng):
    """Draw a dark image with one bright shape at a random place."""
    image = Image.new("RGB", (48, 48), tuple(rng.randrange(60) for _ in range(3)))
    draw, color = ImageDraw.Draw(image), tuple(rng.randrange(170, 256) for _ in range(3))
    x, y, size = rng.randrange(2, 12), rng.randrange(2, 12), rng.randrange(22, 32)
    if shape == "cross":
        draw.line((x, y, x + size, y + size), color, 6)
        draw.line((x, y + size, x + size, y), color, 6)
    else:
        (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + size, y + size), color)
    return image


def draw_shapes(folder, count, seed):
    """Draw a data set: a folder per class with `count` images each."""
    rng = random.Random(seed)  # noqa: S311 (not a secret)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for number in range(count):
            draw_shape(shape, rng).save(folder / shape / f"{number:03}.png")
    return folder


class Load(threading.Thread):
    """A client that submits one job after another, so that the workers are never idle."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack
        self.jobs = []
        self.stopping = threading.Event()

    def files(self):
        """Yield new images: a known image would not be classified again."""
        for number in range(IMAGES_PER_JOB):
            colour = (number, len(self.jobs) % 256, len(self.jobs) // 256)
            yield "images", (f"{number:02}.png", image_files.make("PNG", (96, 96), colour))

    def run(self):
        """Submit jobs, waiting while eight are unfinished."""
        with self.stack.client() as client:
            while not self.stopping.is_set():
                self.jobs.append(client.post("/v1/jobs", files=list(self.files())).json()["id"])
                while len(self.jobs) - self.finished_count(client) > 8 and not self.stopping.wait(0.2):
                    pass

    def finished_count(self, client):
        """Return how many jobs are done."""
        rows = client.get("/v1/jobs", params={"limit": 1000}).json()["jobs"]
        return sum(row["status"] == "done" for row in rows)


def test_promotion_and_rollback_under_load(start_stack, tmp_path):
    """Two busy workers: each result is by exactly one version, no claim mixes versions, no image is lost."""
    stack = start_stack("--workers", "2", batch_size=8, model_poll_seconds=0.3, idle_poll_seconds=0.5)
    run_json(stack, "models", "add", str(bundles.make_bundle(tmp_path, "12", size=40, constant_label="sushi")))
    load = Load(stack)
    load.start()
    try:
        with stack.client() as client:
            for version, step in (
                (bundles.SHIPPED_VERSION, ()),
                ("12", ("promote", f"{bundles.NAME}@12")),
                (bundles.SHIPPED_VERSION, ("rollback",)),
            ):
                if step:
                    assert run_json(stack, "models", *step)["version"] == version
                wait_until(
                    lambda v=version: list(served_versions(stack).values()) == [v] * 2,
                    240,
                    f"both workers serve version {version}",
                )
                before = load.finished_count(client)
                wait_until(
                    lambda n=before: load.finished_count(client) >= n + 5,
                    240,
                    f"jobs are finished with version {version}",
                )
    finally:
        load.stopping.set()
        load.join()
    with stack.client() as client:
        wait_until(lambda: load.finished_count(client) == len(load.jobs), 240, "every job is done")
    versions = [images_by_version(stack, job) for job in load.jobs]
    for job_versions in versions:
        assert sorted(name for names in job_versions.values() for name in names) == [
            f"{n:02}.png" for n in range(IMAGES_PER_JOB)
        ]
    assert {version for job_versions in versions for version in job_versions} == {bundles.SHIPPED_VERSION, "12"}
    assert set(versions[0]) == set(versions[-1]) == {bundles.SHIPPED_VERSION}
    assert {"12"} in [set(job_versions) for job_versions in versions]

    db = database.Database(f"sqlite:///{stack.data_dir}/sortbelt.db")
    assert db.read(lambda conn: conn.execute(sa.text(MIXED_CLAIMS_QUERY)).all()) == []
    db.close()


def test_a_promoted_version_that_fails_its_self_test_is_not_served(start_stack, make_image_folder, tmp_path):
    """It is promoted by force only; the worker then reports it and keeps serving the previous version."""
    stack = start_stack(model_poll_seconds=0.3)
    run_json(stack, "models", "add", str(bundles.make_failing_bundle(tmp_path, "9")))

    def is_refused():
        with stack.client() as client:
            refused = client.post(f"/v1/models/{bundles.NAME}/promote", json={"version": "9"})
        assert refused.is_error
        return "self-test fails" in refused.text

    wait_until(is_refused, 300, "a worker has tested the version")
    assert "self-test fails" in stack.run_sortbelt("models", "promote", f"{bundles.NAME}@9").stderr
    run_json(stack, "models", "promote", f"{bundles.NAME}@9", "--force")

    def rejections():
        with stack.client() as client:
            return next(row["refused_by"] for row in client.get("/v1/models").json()["models"] if row["version"] == "9")

    wait_until(rejections, 300, "the worker rejects the version")
    assert "self-test fails" in rejections()[0]["reason"]
    run = stack.run_sortbelt("enqueue", str(make_image_folder(20)), "--json")
    assert run.returncode == 0, run.stderr
    assert set(images_by_version(stack, json.loads(run.stdout.splitlines()[-1])["job_id"])) == {bundles.SHIPPED_VERSION}
    assert "is rejected by worker" in stack.run_sortbelt("models", "list").stderr


def test_a_model_of_three_classes_from_training_to_rollback(start_stack, tmp_path):
    """Train, evaluate, add, try as a shadow, promote, classify through the queue, compare, roll back."""
    data, unseen = draw_shapes(tmp_path / "data", 40, 1), draw_shapes(tmp_path / "unseen", 10, 2)
    for version, epochs in (("1", 12), ("2", 3)):
        out = tmp_path / f"shapes-{version}"
        options = ("--size", 32, "--network", "cookpad-cnn", "--name", "shapes", "--version", version)
        run_model_module("model.train", data, "--out", out, "--epochs", epochs, *options)
    figures = json.loads(run_model_module("model.evaluate", tmp_path / "shapes-1", unseen, "--json"))
    assert figures["accuracy"] > 0.6  # a random guess gives a third

    stack = start_stack(model_poll_seconds=0.3)
    for version in "12":
        added = run_json(stack, "models", "add", str(tmp_path / f"shapes-{version}"))
        assert (added["stage"], added["labels"]) == ("candidate", list(SHAPES))
    run_json(stack, "models", "promote", "shapes@1")
    run_json(stack, "models", "shadow", "shapes@2", "--share", "1")

    def comparison():
        with stack.client() as client:
            return client.get("/v1/models/compare", params={"a": "shapes@1", "b": "shapes@2"}).json()

    fresh_images = iter(sorted(data.rglob("*.png")))

    def shadow_has_classified():
        with stack.client() as client, next(fresh_images).open("rb") as file:
            done = client.post(
                "/v1/jobs", files={"images": file}, data={"model": "shapes"}, headers={"Prefer": "wait=20"}
            )
        assert done.is_success, done.text
        time.sleep(1)
        return comparison()["compared"]

    wait_until(shadow_has_classified, 300, "the worker has started the shadow")
    compared_before = comparison()["compared"]
    job = run_json(stack, "enqueue", str(unseen), "--model", "shapes")["job_id"]
    results = stack.results(job)
    assert len(results) == 30
    assert {result["model"]["version"] for result in results} == {"1"}
    correct = sum(result["image"].startswith(result["label"]) for result in results)
    assert correct / 30 == pytest.approx(figures["accuracy"], abs=0.04)  # as measured by `model.evaluate`

    wait_until(lambda: comparison()["compared"] >= compared_before + 30, 300, "the shadow has classified every image")
    cells = run_json(stack, "models", "compare", "shapes@1", "shapes@2")["matrix"]
    assert sum(cell["count"] for cell in cells) == comparison()["compared"]
    assert sum(cell["count"] for cell in cells if cell["a"] == cell["b"]) == comparison()["agreeing"]

    run_json(stack, "models", "promote", "shapes@2")
    wait_until(
        lambda: "2" in {v for (name, _), v in served_versions(stack).items() if name == "shapes"},
        300,
        "version 2 is served",
    )
    promoted = run_json(stack, "submit", str(unseen / "circle" / "000.png"), "--model", "shapes", "--wait")
    assert promoted["results"][0]["model"]["version"] == "2"
    assert run_json(stack, "models", "rollback", "shapes")["version"] == "1"
    wait_until(
        lambda: "1" in {v for (name, _), v in served_versions(stack).items() if name == "shapes"},
        300,
        "version 1 is served again",
    )
    rolled_back = run_json(stack, "submit", str(unseen / "circle" / "000.png"), "--model", "shapes", "--wait")
    assert rolled_back["results"][0]["model"]["version"] == "1"
