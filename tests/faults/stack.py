"""A complete Sortbelt as processes to be broken one by one: Redis behind a proxy, API, workers, a database."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import sqlalchemy as sa

from core import enums, errors
from core.db import database
from core.db.queries import api_keys, invariants, workers
from sortbelt.local import redis_server
from tests.faults import fault_points, forkserver, tcp_proxy
from tests.support import factories, image_files, servers

REPOSITORY = Path(__file__).parent.parent.parent
FAST_SETTINGS = {  # shorter waits; nothing else differs from production
    "lease_seconds": 3,
    "idle_poll_seconds": 0.3,
    "batch_size": 16,
    "decoder_processes": 1,
    "api_threads": 4,
}
FAST_MODEL = "sushi-or-sandwich-small"  # a third of the default model's CPU time
TIMEOUT_FACTOR = 4  # a busy machine may take so many times longer than the tests say


def make_image(number: int, colour: tuple[int, int, int] | None = None) -> bytes:
    """Return a small PNG; another number gives other bytes, and usually another colour."""
    image = image_files.make("PNG", (32, 32), colour or (number * 7 % 251, number * 13 % 241, 30))
    return image + number.to_bytes(8, "big")  # decoders ignore trailing bytes


POISON_IMAGE = make_image(0, fault_points.MAGENTA)


@dataclass
class Worker:
    """A worker process."""

    process: object
    log: Path

    @property
    def pid(self):
        """Return its process id."""
        return self.process.pid

    @property
    def is_alive(self):
        """Return whether it runs."""
        return self.process.is_alive()

    def signal(self, signal_number):
        """Send it a signal."""
        os.kill(self.pid, signal_number)

    def kill(self):
        """Kill it and its descendants with SIGKILL."""
        for process in self.process_tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.join(10)

    def process_tree(self):
        """Return its process and its decoders."""
        try:
            main_process = psutil.Process(self.pid)
            return [main_process, *main_process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait_for_exit(self, seconds=15):
        """Wait for its end; return its exit code."""
        self.process.join(seconds * TIMEOUT_FACTOR)
        assert not self.is_alive, f"the worker does not end: {self.log.read_text()[-3000:]}"
        return self.process.exitcode

    def read_log(self):
        """Return its log."""
        return self.log.read_text()


@dataclass
class Stack:
    """The processes of one test; only the PostgreSQL server is shared with other tests."""

    default_settings: ClassVar = FAST_SETTINGS

    folder: Path
    database_url: str
    settings: dict[str, object] = field(default_factory=dict)
    redis: subprocess.Popen[bytes] | None = None
    api: subprocess.Popen[bytes] | None = None
    workers: list[Worker] = field(default_factory=list)
    accepted_jobs: dict[str, list[str]] = field(default_factory=dict)
    """The names of the images of each accepted job, by its id."""
    submitted_names: set[str] = field(default_factory=set)
    """The names of all images submitted, accepted or not: a response may be lost after the commit."""

    def __post_init__(self):
        self.db = database.Database(self.database_url)
        self.key = api_keys.generate()
        self.owner = self.db.write(api_keys.create, "admin", enums.Role.ADMIN, self.key).id
        self.redis_port = servers.free_port()
        self.proxy = tcp_proxy.Proxy(self.redis_port)
        self.port = servers.free_port()
        self.blobs = self.folder / "blobs"
        self.image_numbers = iter(range(10**9))
        self.fifos = []

    def environ(self, fault=None, **extra_settings):
        """Return the environment of a process of this stack; `fault` is for those with fault points."""
        setting_values = {
            "model": FAST_MODEL,
            "database_url": self.database_url,
            "redis_url": f"redis://127.0.0.1:{self.proxy.port}/0",
            "blob_store": self.blobs,
            "port": self.port,
            **self.default_settings,
            **self.settings,
            **extra_settings,
        }
        fault = {"FAULT": fault} if fault else {}
        sortbelt_variables = {f"SORTBELT_{name.upper()}": str(value) for name, value in setting_values.items()}
        return {**os.environ, "OMP_NUM_THREADS": "1", **sortbelt_variables, **fault}

    def start_redis(self, *options):
        """Start Redis on the port that the proxy relays to."""
        command = [redis_server.find_server(), "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--loglevel", "warning", *options]
        self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        servers.wait_for_port(self.redis_port, process=self.redis)

    def restart_redis(self, signal_number, *options):
        """End Redis by a signal, and restart it."""
        self.redis.send_signal(signal_number)
        self.redis.wait()
        self.start_redis(*options)

    def freeze_redis(self):
        """Suspend Redis: it accepts connections, but does not answer."""
        self.redis.send_signal(signal.SIGSTOP)

    def thaw_redis(self):
        """Resume Redis."""
        self.redis.send_signal(signal.SIGCONT)

    def submission_stream(self, count=2, pause=0.02, *, retry=False):
        """Submit small jobs in a thread while the context is open; see `SubmissionStream`."""
        return SubmissionStream(self, count, pause, retry=retry)

    def start_api(self, fault=None, **extra_settings):
        """Start the API; with a fault, through the fault points."""
        module = ["-m", "tests.faults.fault_points", "api"] if fault else ["-m", "api"]
        with (self.folder / "api.log").open("ab") as log:
            command, environ = [sys.executable, *module], self.environ(fault, **extra_settings)
            self.api = subprocess.Popen(
                command, env=environ, stdout=log, stderr=log, cwd=REPOSITORY, start_new_session=True
            )
        servers.wait_for_port(self.port, 20 * TIMEOUT_FACTOR, self.api)

    def kill_api(self, signal_number=signal.SIGKILL):
        """Kill the API and its descendants."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.api.pid, signal_number)
        self.api.wait(20 * TIMEOUT_FACTOR)

    def start_worker(self, fault=None, log_path=None, **extra_settings):
        """Start a worker, with a fault if given."""
        log_path = log_path or self.folder / f"worker{len(self.workers)}.log"
        name = f"w{len(self.workers)}@%h"
        arguments = ["--loglevel", "WARNING", "--hostname", name]
        process = forkserver.forkserver_context().Process(
            target=forkserver.run_worker,
            args=(self.environ(fault, **extra_settings), str(log_path), arguments),
            daemon=True,
        )
        process.start()
        self.workers.append(Worker(process, log_path))
        return self.workers[-1]

    def start_workers(self, count, fault=None, **extra_settings):
        """Start `count` workers, and wait until they are registered."""
        started = [self.start_worker(fault, **extra_settings) for _ in range(count)]
        self.wait_until(lambda: all(map(self.is_registered, started)), 30, "the workers are registered")
        return started

    def freeze(self, worker):
        """Suspend a worker, but not while it has SQLite's lock: that would block all others."""
        while True:
            worker.signal(signal.SIGSTOP)
            try:
                self.db.write(lambda _: None)
            except errors.DatabaseUnavailable:
                worker.signal(signal.SIGCONT)
            else:
                return

    def is_registered(self, worker):
        """Return whether a worker has registered."""
        return any(f":{worker.pid}:" in row.id for row in self.live_workers())

    def live_workers(self):
        """Return the rows of the live workers."""
        return self.db.read(workers.list_alive)

    def client(self, **options):
        """Return an HTTP client with the admin key."""
        client_options = {"timeout": 15, "headers": {"Authorization": f"Bearer {self.key}"}} | options
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", **client_options)

    def new_files(self, count, *extra_files):
        """Return `count` new images as (name, bytes), and the extra files."""
        return [
            *((f"{n:06}.png", make_image(n)) for n, _ in zip(self.image_numbers, range(count), strict=False)),
            *extra_files,
        ]

    def post(self, client, files, key=None):
        """Submit files as one job, and remember it if it is accepted; return the response."""
        headers = {"Idempotency-Key": key} if key else {}
        form_files = [("images", (name, data)) for name, data in files]
        self.submitted_names |= {name for name, _ in files}
        response = client.post("/v1/jobs", files=form_files, headers=headers)
        if response.status_code == 202:
            self.accepted_jobs[response.json()["id"]] = [name for name, _ in files]
        return response

    def submit(self, count, *extra_files):
        """Submit a job of `count` images without an API, through the same intake; return its id."""
        from core import settings
        from core.intake import service
        from core.storage import local

        intake_service = service.SubmissionService(
            settings.Settings(model=FAST_MODEL), self.db, local.LocalBlobStore(self.blobs), NullWakeupSender()
        )
        files = self.new_files(count, *extra_files)
        job_id = factories.submit_job(
            intake_service,
            factories.new_job(self.owner, model=FAST_MODEL),
            [service.Upload(name, data) for name, data in files],
        ).id
        self.accepted_jobs[job_id] = [name for name, _ in files]
        return job_id

    def blob_path(self, data):
        """Return the path of a blob."""
        sha256 = hashlib.sha256(data).hexdigest()
        return self.blobs / sha256[:2] / sha256

    def block_reads(self, data):
        """Replace a blob by a FIFO that opens at once, but whose reader blocks; return its path."""
        path = self.blob_path(data)
        path.unlink()
        os.mkfifo(path)
        self.fifos.append(path.open("r+b", buffering=0))
        return path

    def running_count(self):
        """Return how many images are running."""
        return self._count_images("running")

    def finished_count(self):
        """Return how many images are finished."""
        return self._count_images(*(status for status in enums.Status if status not in ("queued", "running")))

    def claiming_workers(self):
        """Return the ids of the workers that have claimed images."""
        query = sa.select(factories.IMAGES.c.worker).where(factories.IMAGES.c.status == "running").distinct()
        return self.db.read(lambda conn: conn.execute(query).scalars().all())

    def _count_images(self, *statuses):
        query = sa.select(sa.func.count()).where(factories.IMAGES.c.status.in_(statuses))
        return self.db.read(lambda conn: conn.execute(query).scalar_one())

    def attempts(self):
        """Return the attempts of every image: {name: attempt}."""
        return {name: attempt for name, (_, attempt) in factories.image_states(self.db).items()}

    def attempts_of(self, status):
        """Return the distinct attempts of the images with a status."""
        return {attempt for image_status, attempt in factories.image_states(self.db).values() if image_status == status}

    def results_by_name(self):
        """Return every result: {name: (status, error code)}."""
        columns = (factories.IMAGES.c.name, factories.RESULTS.c.status, factories.RESULTS.c.error_code)
        query = sa.select(*columns).join(factories.RESULTS, factories.RESULTS.c.image_id == factories.IMAGES.c.id)
        return {name: (status, code) for name, status, code in self.db.read(lambda conn: conn.execute(query).all())}

    def wait_until_settled(self, seconds=30, expected_errors=None):
        """Wait until every accepted image is finished, and check that each has a label or its expected error code.

        Args:
            seconds: how long that may take, before `TIMEOUT_FACTOR`.
            expected_errors: {name: error code} of the images that must fail.
        """
        expected = {name for names in self.accepted_jobs.values() for name in names}
        self.wait_until(
            lambda: self.finished_count() >= len(expected) and not self._count_images("queued", "running"),
            seconds,
            "all images are finished",
        )
        results = self.results_by_name()
        assert expected <= set(results) <= expected | self.submitted_names
        codes = {name: code for name, (_, code) in results.items() if code is not None}
        assert codes == (expected_errors or {})
        self.check_invariants()

    def check_invariants(self):
        """Check the invariants of the database."""
        assert self.db.read(invariants.find_defects) == {}
        assert self.db.read(invariants.images_over_max_attempts, max_attempts=self.settings.get("max_attempts", 3)) == 0

    def wait_until(self, condition, seconds, description):
        """Wait until a condition holds; show the logs if it does not.

        A condition that the database does not answer does not hold yet: on a busy machine it ends idle sessions.
        """

        def holds():
            try:
                return condition()
            except errors.DatabaseUnavailable:
                return False

        deadline = time.monotonic() + seconds * TIMEOUT_FACTOR
        while not holds():
            if time.monotonic() > deadline:
                logs = [f"{log.name}:\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log"))]
                raise AssertionError(f"not within {seconds} s: {description}\n" + "\n".join(logs))
            time.sleep(0.02)

    def close(self):
        """End all processes."""
        for worker in self.workers:
            for process in worker.process_tree():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            worker.process.join(5)
        if self.api is not None:
            self.kill_api()
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
        for fifo in self.fifos:
            fifo.close()
        self.proxy.close()
        self.db.close()


class NullWakeupSender:
    """Send no wake-ups."""

    def send(self):
        """Do nothing."""


class SubmissionStream:
    """Submit small jobs one after the other, and record the responses; with `retry`, also after connection errors.

    Attributes:
        responses: (status code or exception name, seconds) of each request.
    """

    def __init__(self, stack, count=2, pause=0.02, *, retry=False):
        self.stack = stack
        self.count = count
        self.pause = pause
        self.retry = retry
        self.responses = []
        self.name = uuid.uuid4().hex  # not id(self), which a later object may reuse
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit_loop, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(30 * TIMEOUT_FACTOR)
        assert not self._thread.is_alive()

    def statuses(self):
        """Return the distinct statuses."""
        return {status for status, _ in self.responses}

    def latency_quantile(self, share=0.99):
        """Return the seconds within which this share of the responses came."""
        latencies = sorted(seconds for _, seconds in self.responses)
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))]

    def _submit_loop(self):
        with self.stack.client() as client:
            while not self._stop.wait(self.pause):
                started = time.perf_counter()
                status = self._post_with_retry(
                    client, self.stack.new_files(self.count), f"key-{len(self.responses)}-{self.name}"
                )
                self.responses.append((status, time.perf_counter() - started))

    def _post_with_retry(self, client, files, key):
        """Send one request; with `retry`, send it again under the same key if the connection fails."""
        deadline = time.monotonic() + 20 * TIMEOUT_FACTOR
        while True:
            try:
                return self.stack.post(client, files, key).status_code
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if not self.retry or time.monotonic() > deadline:
                    return type(error).__name__
                time.sleep(0.05)
