"""A model's whole life against a real stack: trained, judged, added, tried as a shadow, promoted, taken back."""

import io
import json
import os
import random
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from PIL import Image, ImageDraw

from jobs import database
from tests import bundles
from tests.e2e.conftest import REPOSITORY, until

pytestmark = pytest.mark.timeout(900)  # each is many processes, one after the other
PICTURES = 24
SHAPES = ("circle", "cross", "square")
# Of one claim: SQLite has one moment for all of its rows.
MIXED = """
SELECT images.worker, images.claimed_at FROM results JOIN images ON images.id = results.image_id
WHERE NOT results.cached GROUP BY images.worker, images.claimed_at HAVING count(DISTINCT results.model_digest) > 1
"""


def say(stack, *words):
    """Run a command that must go well; its JSON."""
    run = stack.sortbelt(*words, "--json", timeout=240)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def served(stack):
    """The version of each model that each worker answers with."""
    with stack.client() as client:
        rows = client.get("/v1/models").json()["models"]
    return {(row["name"], worker): row["version"] for row in rows for worker in row["served_by"]}


def versions_of(stack, job):
    """How many results of a job each version has made; each version has one digest."""
    found = {}
    for result in stack.results(job):
        model = result["model"]
        found.setdefault((model["name"], model["version"], model["digest"]), []).append(result["image"])
    assert len({version for _, version, _ in found}) == len(found)
    return {version: names for (_, version, _), names in found.items()}


def train(*arguments):
    """Run a module of the model package to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    run = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def drawn(shape, chance):
    """A dark picture with one bright shape, somewhere."""
    picture = Image.new("RGB", (48, 48), tuple(chance.randrange(60) for _ in range(3)))
    draw, colour = ImageDraw.Draw(picture), tuple(chance.randrange(170, 256) for _ in range(3))
    x, y, size = chance.randrange(2, 12), chance.randrange(2, 12), chance.randrange(22, 32)
    if shape == "cross":
        draw.line((x, y, x + size, y + size), colour, 6)
        draw.line((x, y + size, x + size, y), colour, 6)
    else:
        (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + size, y + size), colour)
    return picture


def shapes(folder, count, seed):
    """A folder per class with so many drawn pictures each."""
    chance = random.Random(seed)  # noqa: S311 (not a secret)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for number in range(count):
            drawn(shape, chance).save(folder / shape / f"{number:03}.png")
    return folder


class Load(threading.Thread):
    """Somebody who sends one job after the other, so that there is always work."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack
        self.jobs = []
        self.enough = threading.Event()

    def files(self):
        """Pictures that were never sent before: what is known already is no work."""
        for number in range(PICTURES):
            file = io.BytesIO()
            Image.new("RGB", (96, 96), (number, len(self.jobs) % 256, len(self.jobs) // 256)).save(file, "PNG")
            yield "images", (f"{number:02}.png", file.getvalue())

    def run(self):
        """Send, and wait while there is enough."""
        with self.stack.client() as client:
            while not self.enough.is_set():
                self.jobs.append(client.post("/v1/jobs", files=list(self.files())).json()["id"])
                while len(self.jobs) - self.ended(client) > 8 and not self.enough.wait(0.05):
                    pass

    def ended(self, client):
        """How many of its jobs have ended."""
        rows = client.get("/v1/jobs", params={"limit": 1000}).json()["jobs"]
        return sum(row["status"] == "done" for row in rows)


def test_promotion_and_rollback_under_load(start, tmp_path):
    """Two workers, never idle: each result by exactly one version, no batch of two versions, nothing lost."""
    stack = start("--workers", "2", batch_size=8, models_seconds=0.3, idle_ring_seconds=0.5)
    say(stack, "models", "add", str(bundles.make(tmp_path, "12", size=40, always="sushi")))
    load = Load(stack)
    load.start()
    try:
        with stack.client() as client:
            for version, step in (
                (bundles.OWN, ()),
                ("12", ("promote", f"{bundles.NAME}@12")),
                (bundles.OWN, ("rollback",)),
            ):
                if step:
                    assert say(stack, "models", *step)["version"] == version
                until(lambda v=version: list(served(stack).values()) == [v] * 2, 240, f"both workers serve {version}")
                before = load.ended(client)
                until(lambda n=before: load.ended(client) >= n + 5, 240, f"jobs are answered by {version}")
    finally:
        load.enough.set()
        load.join()
    with stack.client() as client:
        until(lambda: load.ended(client) == len(load.jobs), 240, "every job has ended")
    versions = [versions_of(stack, job) for job in load.jobs]
    for by in versions:
        assert sorted(name for names in by.values() for name in names) == [f"{n:02}.png" for n in range(PICTURES)]
    assert {version for by in versions for version in by} == {bundles.OWN, "12"}
    assert set(versions[0]) == set(versions[-1]) == {bundles.OWN}
    assert {"12"} in [set(by) for by in versions]

    db = database.Database(f"sqlite:///{stack.data_dir}/sortbelt.db")
    assert db.read(lambda c: c.execute(sa.text(MIXED)).all()) == []
    db.close()


def test_a_bad_version_that_is_promoted_stops_nothing(start, folder, tmp_path):
    """It fails its self-test: the worker says so and goes on with the version before."""
    stack = start(models_seconds=0.3)
    say(stack, "models", "add", str(bundles.lying(tmp_path, "9")))
    say(stack, "models", "promote", f"{bundles.NAME}@9")

    def refusals():
        return next(row["refused_by"] for row in say(stack, "models", "list")["models"] if row["version"] == "9")

    until(refusals, 120, "the worker refuses it")
    assert "self-test fails" in refusals()[0]["reason"]
    run = stack.sortbelt("enqueue", str(folder(20)), "--json")
    assert run.returncode == 0, run.stderr
    assert set(versions_of(stack, json.loads(run.stdout.splitlines()[-1])["job_id"])) == {bundles.OWN}
    assert "is refused by worker" in stack.sortbelt("models", "list").stderr


def test_a_model_of_three_classes_goes_the_whole_way(start, tmp_path):
    """Train, evaluate, add, try as a shadow, promote, classify through the queue, compare, roll back."""
    data, unseen = shapes(tmp_path / "data", 40, 1), shapes(tmp_path / "unseen", 10, 2)
    for version, epochs in (("1", 12), ("2", 13)):
        out = tmp_path / f"shapes-{version}"
        options = ("--size", 32, "--network", "cookpad-cnn", "--name", "shapes", "--version", version)
        train("model.train", data, "--out", out, "--epochs", epochs, *options)
    figures = json.loads(train("model.evaluate", tmp_path / "shapes-1", unseen, "--json"))
    assert figures["accuracy"] > 0.6  # a third by chance

    stack = start(models_seconds=0.3)
    for version in "12":
        added = say(stack, "models", "add", str(tmp_path / f"shapes-{version}"))
        assert (added["stage"], added["labels"]) == ("candidate", list(SHAPES))
    say(stack, "models", "promote", "shapes@1")
    say(stack, "models", "shadow", "shapes@2", "--share", "1")
    job = say(stack, "enqueue", str(unseen), "--model", "shapes")["job_id"]
    results = stack.results(job)
    assert len(results) == 30
    assert {result["model"]["version"] for result in results} == {"1"}
    right = sum(result["image"].startswith(result["label"]) for result in results)
    assert right / 30 == pytest.approx(figures["accuracy"], abs=0.04)  # the queue says what `evaluate` said

    def compared():
        return say(stack, "models", "compare", "shapes@1", "shapes@2")

    until(lambda: compared()["compared"] == 30, 120, "the shadow has seen all")
    cells = compared()["matrix"]
    assert sum(cell["count"] for cell in cells) == 30
    assert sum(cell["count"] for cell in cells if cell["a"] == cell["b"]) == compared()["agreeing"]

    say(stack, "models", "promote", "shapes@2")
    until(lambda: "2" in {v for (name, _), v in served(stack).items() if name == "shapes"}, 120, "the second serves")
    one = say(stack, "submit", str(unseen / "circle" / "000.png"), "--model", "shapes", "--wait")
    assert one["results"][0]["model"]["version"] == "2"
    assert say(stack, "models", "rollback", "shapes")["version"] == "1"
    until(lambda: "1" in {v for (name, _), v in served(stack).items() if name == "shapes"}, 120, "the first again")
    again = say(stack, "submit", str(unseen / "circle" / "000.png"), "--model", "shapes", "--wait")
    assert again["results"][0]["model"]["version"] == "1"
