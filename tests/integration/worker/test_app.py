"""The real worker, `python -m worker`, as a process on real Redis and real databases."""

import contextlib
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

from core import settings
from core.broker import celery_app, wakeup
from core.db.queries import models, results, workers
from core.intake import model_upload as uploads
from core.intake import service
from core.storage import local
from migrations.__main__ import upgrade
from sortbelt import version
from tests.integration.worker import fakes
from tests.support import bundles, celery_messages, factories, servers, waiting


@contextlib.contextmanager
def run_worker(folder, database_url, redis_url, **more_settings):
    """Run a worker process; kill it and its children at the end."""
    setting_values = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "BLOB_STORE": str(folder / "blobs"),
        "DECODER_PROCESSES": "1",
    }
    environ = {**os.environ, **{f"SORTBELT_{name}": value for name, value in (setting_values | more_settings).items()}}
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


def wait_until(condition, folder):
    """Wait until a condition holds; show the worker's log if it does not."""
    waiting.wait_until(condition, describe=lambda: (folder / "log").read_text()[-3000:])


def wait_for_exit(process, folder):
    """Wait for a process to end; return its exit code."""
    try:
        return process.wait(waiting.TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the worker does not end: {(folder / 'log').read_text()[-3000:]}")


class Client:
    """Submit jobs through the real intake, and look at them."""

    def __init__(self, db, folder, wakeup_sender, make_image):
        self.db = db
        self.folder = folder
        self.owner = factories.create_key(db, "client")
        self.intake = service.SubmissionService(
            settings.Settings(), db, local.LocalBlobStore(folder / "blobs"), wakeup_sender
        )
        self.make_image = make_image

    def submit(self, count):
        """Submit a job of `count` good images and a bad one; return its id."""
        uploads = [service.Upload(f"{n:04}", self.make_image(n % 50)) for n in range(count)]
        return factories.submit_job(
            self.intake, factories.new_job(self.owner), [*uploads, service.Upload("bad", b"text")]
        ).id

    def done(self, job_id):
        """Return whether a job has ended."""
        return factories.get_job(self.db, job_id).finished_at is not None

    def running(self):
        """Return how many images are running."""
        return sum(status == "running" for status, _ in factories.image_states(self.db).values())

    def live_workers(self):
        """Return how many workers are alive."""
        return len(self.db.read(workers.list_alive))

    def check(self, job_id, count):
        """Check that every image has one result: good ones a label, the bad one an error code."""
        assert factories.job_counts(self.db, job_id) == {"done": count, "failed": 1}
        rows = self.db.read(results.list_page, results.ResultFilter(job=job_id), limit=10_000)
        assert len({row.name for row in rows}) == len(rows) == count + 1


def process_tree(process):
    """Return a process and its descendants."""
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def test_a_worker_waits_for_its_tables_follows_wakeups_and_ends_cleanly(tmp_path, redis_url, make_jpeg, open_database):
    """It starts before the migration, works on wake-ups alone, and SIGTERM under load leaves nothing claimed."""
    url = f"sqlite:///{tmp_path}/sortbelt.db"
    db = open_database(url)
    with run_worker(tmp_path, url, redis_url, IDLE_POLL_SECONDS="600", BATCH_SIZE="16") as process:
        time.sleep(1)
        db.write(upgrade)
        client = Client(db, tmp_path, wakeup.WakeupSender(redis_url), make_jpeg)
        wait_until(client.live_workers, tmp_path)
        job_id = client.submit(20)
        wait_until(lambda: client.done(job_id), tmp_path)
        client.check(job_id, 20)
        (row, *_), (one,) = (
            db.read(results.list_page, results.ResultFilter(job=job_id), limit=1),
            db.read(workers.list_alive),
        )
        assert (row.worker, row.precision, row.sortbelt) == (one.id, one.device.split(", ")[1], version.VERSION)
        wait_until(lambda: db.read(workers.list_alive)[0].batch_sizes == {factories.MODEL: 16}, tmp_path)

        below = process_tree(process)
        client.submit(300)
        wait_until(client.running, tmp_path)
        process.terminate()
        assert wait_for_exit(process, tmp_path) == 0
        assert client.running() == 0
        assert {a for status, a in factories.image_states(db).values() if status == "queued"} <= {0}
        assert client.live_workers() == 0
        _, left = psutil.wait_procs(below, timeout=waiting.TIMEOUT_SECONDS)
        assert left == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_work_goes_on_without_redis_and_the_worker_ends_cleanly(
    sqlite_database_url, tmp_path, make_jpeg, open_database
):
    """After Redis is killed the idle poll finds the work, and SIGTERM is still handled."""
    db = open_database(sqlite_database_url)
    client = Client(db, tmp_path, fakes.FakeWakeupSender(), make_jpeg)
    with (
        servers.run_redis() as (redis_url, server),
        run_worker(tmp_path, sqlite_database_url, redis_url, IDLE_POLL_SECONDS="0.5") as process,
    ):
        wait_until(client.live_workers, tmp_path)
        server.kill()
        server.wait()
        job_id = client.submit(30)
        wait_until(lambda: client.done(job_id), tmp_path)
        client.check(job_id, 30)
        below = process_tree(process)
        process.terminate()
        assert wait_for_exit(process, tmp_path) == 0
        _, left = psutil.wait_procs(below, timeout=waiting.TIMEOUT_SECONDS)
        assert left == []


def test_a_worker_starts_without_redis_and_survives_malformed_messages(
    sqlite_database_url, tmp_path, make_jpeg, open_database
):
    """Neither a missing Redis, nor malformed or pickled messages, nor a hundred wake-ups stop a worker."""
    db = open_database(sqlite_database_url)
    port = servers.free_port()
    url = f"redis://127.0.0.1:{port}/0"
    client = Client(db, tmp_path, fakes.FakeWakeupSender(), make_jpeg)
    with run_worker(tmp_path, sqlite_database_url, url, IDLE_POLL_SECONDS="1") as process:
        wait_until(client.live_workers, tmp_path)
        job_id = client.submit(5)
        wait_until(lambda: client.done(job_id), tmp_path)
        with servers.run_redis(port), redis.Redis.from_url(url) as redis_client:
            wait_until(lambda: any(each["cmd"] == "brpop" for each in redis_client.client_list()), tmp_path)
            pickled = celery_messages.encode(
                celery_app.TASK_NAME, "application/x-python-serialize", pickle.dumps(([], {}, {}))
            )
            malformed = [
                pickled,
                celery_messages.encode("os.system"),
                celery_messages.encode(celery_app.TASK_NAME, body=b'[["x"], {}, {}]'),
                celery_messages.encode(celery_app.TASK_NAME),
            ]
            redis_client.lpush(
                celery_app.QUEUE_NAME,
                b"{}",
                *malformed,
                *(celery_messages.encode(celery_app.TASK_NAME) for _ in range(100)),
            )
            wait_until(lambda: redis_client.llen(celery_app.QUEUE_NAME) == 0 or process.poll() is not None, tmp_path)
            job_id = client.submit(20)
            wait_until(lambda: client.done(job_id), tmp_path)
            client.check(job_id, 20)
            assert process.poll() is None


def test_a_worker_that_is_killed_loses_nothing(postgres_database_url, tmp_path, redis_url, make_jpeg, open_database):
    """After kill -9 in the middle of a batch its children die, and a second worker finishes the job."""
    db = open_database(postgres_database_url)
    client = Client(db, tmp_path, fakes.FakeWakeupSender(), make_jpeg)
    options = {"LEASE_SECONDS": "2", "IDLE_POLL_SECONDS": "0.3", "BATCH_SIZE": "16"}
    job_id = client.submit(160)
    with run_worker(tmp_path, postgres_database_url, redis_url, **options) as first:
        wait_until(client.running, tmp_path)
        below = process_tree(first)
        first.send_signal(signal.SIGKILL)
        first.wait()
        _, left = psutil.wait_procs(below, timeout=waiting.TIMEOUT_SECONDS)
        assert left == []
    held = client.running()
    assert held > 0
    with run_worker(tmp_path, postgres_database_url, redis_url, **options) as second:
        wait_until(lambda: client.done(job_id), tmp_path)
        client.check(job_id, 160)
        attempts = [attempt for _, attempt in factories.image_states(db).values()]
        assert attempts.count(2) == held
        second.terminate()
        assert wait_for_exit(second, tmp_path) == 0


@pytest.mark.timeout(1500)
def test_a_promoted_version_is_served_without_a_restart(
    postgres_database_url, tmp_path, redis_url, make_jpeg, open_database
):
    """One that cannot be used is reported in the worker's row, and the one before stays."""
    db = open_database(postgres_database_url)
    client = Client(db, tmp_path, fakes.FakeWakeupSender(), make_jpeg)
    options = {"MODEL_POLL_SECONDS": "0.2", "IDLE_POLL_SECONDS": "0.3", "MODEL_CACHE": str(tmp_path / "cache")}

    def promote(path):
        files, store = bundles.read_files(path), local.LocalBlobStore(tmp_path / "blobs")
        row, _ = uploads.register_bundle(db, store, files, client.owner)
        db.write(models.promote, row.name, row.version, client.owner)

    def versions():
        job_id = client.submit(10)
        wait_until(lambda: client.done(job_id), tmp_path)
        rows = db.read(results.list_page, results.ResultFilter(job=job_id, status="done"), limit=100)
        assert len(rows) == 10
        return {(row.model_version, row.label) for row in rows}

    with run_worker(tmp_path, postgres_database_url, redis_url, **options) as process:
        wait_until(client.live_workers, tmp_path)
        assert {version for version, _ in versions()} == {bundles.SHIPPED_VERSION}
        promote(bundles.make_bundle(tmp_path, "12", size=40, constant_label="sushi"))
        wait_until(lambda: db.read(workers.list_alive)[0].loaded_models == {factories.MODEL: "12"}, tmp_path)
        assert versions() == {("12", "sushi")}
        promote(bundles.make_failing_bundle(tmp_path, "9", size=22))
        wait_until(lambda: db.read(workers.list_alive)[0].rejected_models, tmp_path)
        assert versions() == {("12", "sushi")}
        process.terminate()
        assert wait_for_exit(process, tmp_path) == 0
    assert f"{factories.MODEL}@9 is rejected: The self-test fails" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_an_invalid_bundle_ends_the_worker_before_anything_is_claimed(
    sqlite_database_url, tmp_path, redis_url, make_jpeg, fault, open_database
):
    """The worker ends with an exit code and a message, and the jobs wait untouched."""
    bundles = tmp_path / "bundles"
    shutil.copytree(settings.BUNDLES_DIR, bundles)
    weights = bundles / factories.MODEL / "weights.safetensors"
    if fault == "missing":
        shutil.rmtree(bundles / factories.MODEL)
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    db = open_database(sqlite_database_url)
    client = Client(db, tmp_path, fakes.FakeWakeupSender(), make_jpeg)
    client.submit(3)
    with run_worker(tmp_path, sqlite_database_url, redis_url, BUNDLES=str(bundles)) as process:
        assert wait_for_exit(process, tmp_path) not in (0, None)
    log = (tmp_path / "log").read_text()
    assert "sortbelt: the worker cannot start: " in log
    assert str(bundles) in log
    assert "Traceback" not in log
    assert set(factories.image_states(db).values()) == {("queued", 0), ("failed", 0)}


def test_a_stuck_worker_ends_itself(sqlite_database_url, tmp_path, redis_url, make_jpeg, open_database):
    """A disk that never answers: exit code 70 for the supervisor, and no hung decoder is left."""
    db = open_database(sqlite_database_url)
    client = Client(db, tmp_path, fakes.FakeWakeupSender(), make_jpeg)
    client.submit(1)
    (blob,) = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    blob.unlink()
    os.mkfifo(blob)  # a reader blocks forever
    options = {"DECODE_SECONDS": "600", "WATCHDOG_SECONDS": "4", "LEASE_SECONDS": "2", "IDLE_POLL_SECONDS": "0.3"}
    with run_worker(tmp_path, sqlite_database_url, redis_url, **options) as process:
        wait_until(client.running, tmp_path)
        below = process_tree(process)[1:]
        assert below
        assert wait_for_exit(process, tmp_path) == 70
        _, left = psutil.wait_procs(below, timeout=waiting.TIMEOUT_SECONDS)
        for child in left:
            child.kill()
        assert left == []
    assert "no progress" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("name", "value"), [("BATCH_SIZE", "x"), ("LEASES", "1")])
def test_an_invalid_setting_ends_the_worker_and_is_named(tmp_path, name, value):
    """With exit code 2 and one line."""
    with run_worker(tmp_path, "sqlite:///x.db", "redis://127.0.0.1:1/0", **{name: value}) as process:
        assert wait_for_exit(process, tmp_path) == 2
    log = (tmp_path / "log").read_text()
    assert f"SORTBELT_{name}" in log
    assert "Traceback" not in log


TWO_EARLY_SIGNALS = """
import os, signal, time
from worker import app

class Runtime:
    is_stopping = False

    def close(self):
        assert not self.is_stopping, "it waits for the batch again"
        self.is_stopping = True
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

app.app.runtime = Runtime()
signal.signal(signal.SIGTERM, app._on_early_sigterm)
app._on_early_sigterm()
"""


def test_a_second_signal_ends_a_worker_at_once_also_before_celery_has_started():
    """The first one waits for the batch; then both come to the handler that is there until Celery has its own."""
    run = subprocess.run([sys.executable, "-c", TWO_EARLY_SIGNALS], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, "")
