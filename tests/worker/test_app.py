"""The real worker, `python -m worker`, as a process with real Redis and real databases."""

import base64
import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import redis

from jobs import bell, blobs, intake, settings, tables, version
from jobs import bundles as uploads
from jobs.store import keys, models, results, workers
from migrations.__main__ import upgrade
from tests import bundles, servers
from tests.jobs import making


class SilentBell:
    """Nobody rings."""

    def ring(self):
        """Not heard."""


@contextlib.contextmanager
def worker(folder, database_url, redis_url, **more):
    """Run a worker; whatever becomes of it, it and its children are gone afterwards."""
    chosen = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "BLOBS": str(folder / "blobs"), "DECODERS": "1"}
    environ = {**os.environ, **{f"SORTBELT_{name}": value for name, value in (chosen | more).items()}}
    command = [sys.executable, "-m", "worker", "--loglevel", "WARNING"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.wait()


def until(true, seconds, folder):
    """Wait until something is true; where it does not come true, the worker's log says why."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
        time.sleep(0.05)


def ended(process, folder, seconds=15):
    """Wait for a process to end; its exit code."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it does not end: {(folder / 'log').read_text()[-3000:]}")


class Desk:
    """Where jobs are handed in, and looked at."""

    def __init__(self, db, folder, ringer, good):
        self.db = db
        self.folder = folder
        self.owner = db.write(keys.create, "somebody", tables.Role.SUBMIT, keys.make()).id
        self.intake = intake.Intake(settings.Settings(), db, blobs.Folder(folder / "blobs"), ringer)
        self.good = good

    def submit(self, count):
        """A job of so many good pictures and a bad one."""
        uploads = [intake.Upload(f"{n:04}", self.good(n % 50)) for n in range(count)]
        return self.intake.create(making.order(self.owner), [*uploads, intake.Upload("bad", b"text")]).id

    def done(self, id_):
        """Whether a job has ended."""
        return making.view(self.db, id_).finished_at is not None

    def running(self):
        """How many images some worker holds."""
        return sum(status == "running" for status, _ in making.images(self.db).values())

    def living(self):
        """How many workers show life."""
        return len(self.db.read(workers.living))

    def check(self, id_, count):
        """Every image has one result: the good ones a label, the bad one a code."""
        assert making.counts(self.db, id_) == {"done": count, "failed": 1}
        found = self.db.read(results.page, results.Filter(job=id_), limit=10_000)
        assert len({row.name for row in found}) == len(found) == count + 1


def family(process):
    """A process with all below it."""
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def test_a_worker_waits_for_its_tables_hears_the_bell_and_ends_well(tmp_path, redis_url, good, opened):
    """Started before the database was migrated; work by the bell alone; SIGTERM under load leaves nothing behind."""
    url = f"sqlite:///{tmp_path}/sortbelt.db"
    db = opened(url)
    with worker(tmp_path, url, redis_url, IDLE_RING_SECONDS="600", BATCH_SIZE="16") as process:
        time.sleep(1)
        db.write(upgrade)
        desk = Desk(db, tmp_path, bell.Bell(redis_url), good)
        until(desk.living, 30, tmp_path)
        id_ = desk.submit(20)
        until(lambda: desk.done(id_), 10, tmp_path)
        desk.check(id_, 20)
        (row, *_), (one,) = db.read(results.page, results.Filter(job=id_), limit=1), db.read(workers.living)
        assert (row.worker, row.precision, row.sortbelt) == (one.id, one.device.split(", ")[1], version.VERSION)
        until(lambda: db.read(workers.living)[0].batch_sizes == {making.MODEL: 16}, 10, tmp_path)

        below = family(process)
        desk.submit(800)
        until(desk.running, 10, tmp_path)
        process.terminate()
        assert ended(process, tmp_path) == 0
        assert desk.running() == 0
        assert {a for status, a in making.images(db).values() if status == "queued"} <= {0}
        assert desk.living() == 0
        _, left = psutil.wait_procs(below, timeout=3)
        assert left == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_work_goes_on_without_redis_and_the_worker_still_ends_well(sqlite_database_url, tmp_path, good, opened):
    """Redis is killed for good: the idle ring finds the work, and SIGTERM is heard all the same."""
    db = opened(sqlite_database_url)
    desk = Desk(db, tmp_path, SilentBell(), good)
    with (
        servers.redis() as (redis_url, server),
        worker(tmp_path, sqlite_database_url, redis_url, IDLE_RING_SECONDS="0.5") as process,
    ):
        until(desk.living, 30, tmp_path)
        server.kill()
        server.wait()
        id_ = desk.submit(30)
        until(lambda: desk.done(id_), 15, tmp_path)
        desk.check(id_, 30)
        below = family(process)
        process.terminate()
        assert ended(process, tmp_path) == 0
        _, left = psutil.wait_procs(below, timeout=3)
        assert left == []


def letter(task, content_type="application/json", body=b"[[], {}, {}]"):
    """A message as Celery writes it, but with whatever task and body."""
    properties = {"delivery_mode": 2, "delivery_tag": os.urandom(8).hex(), "priority": 0, "body_encoding": "base64"}
    properties["delivery_info"] = {"exchange": "", "routing_key": bell.QUEUE}
    headers = {"task": task, "id": os.urandom(8).hex(), "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"}
    whole = {"body": base64.b64encode(body).decode(), "content-encoding": "utf-8", "content-type": content_type}
    return json.dumps({**whole, "headers": headers, "properties": properties}).encode()


def test_a_worker_starts_without_redis_and_survives_what_it_finds_there(sqlite_database_url, tmp_path, good, opened):
    """Neither no Redis, nor odd messages in it, nor pickles, nor a hundred bells at once stop a worker."""
    db = opened(sqlite_database_url)
    port = servers.free_port()
    url = f"redis://127.0.0.1:{port}/0"
    quiet = Desk(db, tmp_path, SilentBell(), good)
    with worker(tmp_path, sqlite_database_url, url, IDLE_RING_SECONDS="1") as process:
        until(quiet.living, 30, tmp_path)
        id_ = quiet.submit(5)
        until(lambda: quiet.done(id_), 15, tmp_path)
        with servers.redis(port), redis.Redis.from_url(url) as client:
            until(lambda: any(each["cmd"] == "brpop" for each in client.client_list()), 40, tmp_path)
            pickled = letter(bell.TASK, "application/x-python-serialize", pickle.dumps(([], {}, {})))
            odd = [pickled, letter("os.system"), letter(bell.TASK, body=b'[["x"], {}, {}]'), letter(bell.TASK)]
            client.lpush(bell.QUEUE, b"{}", *odd, *(letter(bell.TASK) for _ in range(100)))
            until(lambda: client.llen(bell.QUEUE) == 0 or process.poll() is not None, 30, tmp_path)
            id_ = quiet.submit(20)
            until(lambda: quiet.done(id_), 15, tmp_path)
            quiet.check(id_, 20)
            assert process.poll() is None


def test_a_worker_that_is_killed_loses_nothing(postgres_database_url, tmp_path, redis_url, good, opened):
    """Kill -9 in the middle of a batch: its children die, and a second worker finishes, one result for each image."""
    db = opened(postgres_database_url)
    desk = Desk(db, tmp_path, SilentBell(), good)
    options = {"LEASE_SECONDS": "2", "IDLE_RING_SECONDS": "0.3", "BATCH_SIZE": "32"}
    id_ = desk.submit(400)
    with worker(tmp_path, postgres_database_url, redis_url, **options) as first:
        until(desk.running, 30, tmp_path)
        below = family(first)
        first.send_signal(signal.SIGKILL)
        first.wait()
        _, left = psutil.wait_procs(below, timeout=5)
        assert left == []
    held = desk.running()
    assert held > 0
    with worker(tmp_path, postgres_database_url, redis_url, **options) as second:
        until(lambda: desk.done(id_), 60, tmp_path)
        desk.check(id_, 400)
        attempts = [attempt for _, attempt in making.images(db).values()]
        assert attempts.count(2) == held
        second.terminate()
        assert ended(second, tmp_path) == 0


@pytest.mark.timeout(1500)
def test_a_promoted_version_is_taken_up_without_a_restart(postgres_database_url, tmp_path, redis_url, good, opened):
    """Between two batches; one that cannot be used is refused in the worker's row, and the one before goes on."""
    db = opened(postgres_database_url)
    desk = Desk(db, tmp_path, SilentBell(), good)
    options = {"MODELS_SECONDS": "0.2", "IDLE_RING_SECONDS": "0.3", "MODEL_CACHE": str(tmp_path / "cache")}

    def promote(path):
        files, store = bundles.files(path), blobs.Folder(tmp_path / "blobs")
        row, _ = uploads.take_in(db, store, files, desk.owner)
        db.write(models.promote, row.name, row.version, desk.owner)

    def versions():
        id_ = desk.submit(10)
        until(lambda: desk.done(id_), 300, tmp_path)
        found = db.read(results.page, results.Filter(job=id_, status="done"), limit=100)
        assert len(found) == 10
        return {(row.model_version, row.label) for row in found}

    with worker(tmp_path, postgres_database_url, redis_url, **options) as process:
        until(desk.living, 300, tmp_path)
        assert {version for version, _ in versions()} == {bundles.OWN}
        promote(bundles.make(tmp_path, "12", size=40, always="sushi"))
        until(lambda: db.read(workers.living)[0].serves == {making.MODEL: "12"}, 300, tmp_path)
        assert versions() == {("12", "sushi")}
        promote(bundles.lying(tmp_path, "9", size=22))
        until(lambda: db.read(workers.living)[0].refuses, 300, tmp_path)
        assert versions() == {("12", "sushi")}
        process.terminate()
        assert ended(process, tmp_path, 300) == 0
    assert f"{making.MODEL}@9 is refused: The self-test fails" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_a_bad_bundle_is_refused_before_anything_is_claimed(
    sqlite_database_url, tmp_path, redis_url, good, fault, opened
):
    """The worker ends with a code and a sentence, and the jobs wait untouched."""
    bundles = tmp_path / "bundles"
    shutil.copytree(settings.BUNDLES, bundles)
    weights = bundles / making.MODEL / "weights.safetensors"
    if fault == "missing":
        shutil.rmtree(bundles / making.MODEL)
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    db = opened(sqlite_database_url)
    desk = Desk(db, tmp_path, SilentBell(), good)
    desk.submit(3)
    with worker(tmp_path, sqlite_database_url, redis_url, BUNDLES=str(bundles)) as process:
        assert ended(process, tmp_path, 30) not in (0, None)
    said = (tmp_path / "log").read_text()
    assert "sortbelt: the worker cannot start: " in said
    assert str(bundles) in said
    assert "Traceback" not in said
    assert set(making.images(db).values()) == {("queued", 0), ("failed", 0)}


def test_a_worker_whose_work_stands_still_ends_itself(sqlite_database_url, tmp_path, redis_url, good, opened):
    """A disk that never answers: exit code 70 for the supervisor, and no hung decoder is left behind."""
    db = opened(sqlite_database_url)
    desk = Desk(db, tmp_path, SilentBell(), good)
    desk.submit(1)
    (blob,) = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    blob.unlink()
    os.mkfifo(blob)  # whoever reads it waits for ever
    options = {"DECODE_SECONDS": "600", "STUCK_SECONDS": "1.5", "LEASE_SECONDS": "2", "IDLE_RING_SECONDS": "0.3"}
    with worker(tmp_path, sqlite_database_url, redis_url, **options) as process:
        until(desk.running, 30, tmp_path)
        below = family(process)[1:]
        assert below
        assert ended(process, tmp_path, 15) == 70
        _, left = psutil.wait_procs(below, timeout=3)
        for child in left:
            child.kill()
        assert left == []
    assert "no progress" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("name", "value"), [("BATCH_SIZE", "x"), ("LEASES", "1")])
def test_a_bad_setting_ends_the_worker_with_its_name(tmp_path, name, value):
    """Code 2 and one sentence."""
    with worker(tmp_path, "sqlite:///x.db", "redis://127.0.0.1:1/0", **{name: value}) as process:
        assert ended(process, tmp_path, 30) == 2
    said = (tmp_path / "log").read_text()
    assert f"SORTBELT_{name}" in said
    assert "Traceback" not in said
