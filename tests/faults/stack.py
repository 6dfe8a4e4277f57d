"""The whole of Sortbelt as processes that may be hurt, one by one: Redis behind a proxy, API, workers, a database."""

import contextlib
import hashlib
import io
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
from PIL import Image

from jobs import database, errors, tables
from jobs.store import invariants, keys, workers
from tests import servers
from tests.faults import nursery, points, proxy
from tests.jobs import making

REPOSITORY = Path(__file__).parent.parent.parent
QUICK = {  # everything that waits, waits less; nothing else differs from what runs in earnest
    "lease_seconds": 3,
    "idle_ring_seconds": 0.3,
    "batch_size": 16,
    "decoders": 1,
    "api_threads": 4,
}


SLACK = 4  # a busy machine may take so many times longer than what is written in the tests


def picture(number: int, colour: tuple[int, int, int] | None = None) -> bytes:
    """A small PNG; another number is other bytes, and nearly another colour."""
    file = io.BytesIO()
    made = Image.new("RGB", (32, 32), colour or (number * 7 % 251, number * 13 % 241, 30))
    made.save(file, "PNG")
    return file.getvalue() + number.to_bytes(8, "big")  # decoders ignore what follows the end


POISON = picture(0, points.MAGENTA)


@dataclass
class Worker:
    """One worker process."""

    process: object
    log: Path

    @property
    def pid(self):
        """Its process id."""
        return self.process.pid

    @property
    def alive(self):
        """Whether it runs."""
        return self.process.is_alive()

    def signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self):
        """`kill -9` of it and of all that it has started."""
        for each in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.join(10)

    def family(self):
        """Its process, and its decoders."""
        try:
            leader = psutil.Process(self.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def ended(self, seconds=15):
        """Wait for its end; its exit code."""
        self.process.join(seconds * SLACK)
        assert not self.alive, f"it does not end: {self.log.read_text()[-3000:]}"
        return self.process.exitcode

    def said(self):
        """Its log."""
        return self.log.read_text()


@dataclass
class Stack:
    """What a test hurts. Everything in it is this test's own, but for the PostgreSQL server."""

    usual: ClassVar = QUICK

    folder: Path
    database_url: str
    settings: dict[str, object] = field(default_factory=dict)
    redis: subprocess.Popen[bytes] | None = None
    api: subprocess.Popen[bytes] | None = None
    workers: list[Worker] = field(default_factory=list)
    accepted: dict[str, list[str]] = field(default_factory=dict)
    """What was promised: job → the names of its pictures."""
    attempted: set[str] = field(default_factory=set)
    """The names of all that was handed in, promised or not: an answer may be lost after the commit."""

    def __post_init__(self):
        self.db = database.Database(self.database_url)
        self.key = keys.make()
        self.owner = self.db.write(keys.create, "admin", tables.Role.ADMIN, self.key).id
        self.redis_port = servers.free_port()
        self.proxy = proxy.Proxy(self.redis_port)
        self.port = servers.free_port()
        self.blobs = self.folder / "blobs"
        self.numbers = iter(range(10**9))

    def environ(self, fault=None, **more):
        """The environment of a process of this stack; `fault` is for those that have fault points."""
        chosen = {
            "database_url": self.database_url,
            "redis_url": f"redis://127.0.0.1:{self.proxy.port}/0",
            "blobs": self.blobs,
            "port": self.port,
            **self.usual,
            **self.settings,
            **more,
        }
        fault = {"FAULT": fault} if fault else {}
        ours = {f"SORTBELT_{name.upper()}": str(value) for name, value in chosen.items()}
        return {**os.environ, "OMP_NUM_THREADS": "1", **ours, **fault}

    def start_redis(self, *options):
        """A Redis on the port that the proxy leads to."""
        command = [servers.redis_server(), "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--loglevel", "warning", *options]
        self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        servers.wait_for_port(self.redis_port, process=self.redis)

    def start_redis_again(self, how, *options):
        """End Redis by a signal, and start it again."""
        self.redis.send_signal(how)
        self.redis.wait()
        self.start_redis(*options)

    def freeze_redis(self):
        """It takes calls, and says nothing."""
        self.redis.send_signal(signal.SIGSTOP)

    def thaw_redis(self):
        """It goes on."""
        self.redis.send_signal(signal.SIGCONT)

    def stream(self, count=2, pause=0.02, *, retry=False):
        """Somebody who hands in small jobs all the time; with `retry`, again where no connection comes about."""
        return Stream(self, count, pause, retry=retry)

    def start_api(self, fault=None, **more):
        """`python -m api`; with a fault, the tests' own entrance to it."""
        module = ["-m", "tests.faults.points", "api"] if fault else ["-m", "api"]
        with (self.folder / "api.log").open("ab") as log:
            environ = self.environ(fault, **more)
            self.api = subprocess.Popen(
                [sys.executable, *module], env=environ, stdout=log, stderr=log, cwd=REPOSITORY, start_new_session=True
            )
        servers.wait_for_port(self.port, 20 * SLACK, self.api)

    def kill_api(self, number=signal.SIGKILL):
        """`kill -9` of the API and of all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.api.pid, number)
        self.api.wait(20 * SLACK)

    def start_worker(self, fault=None, log=None, **more):
        """A worker; with a fault, it has fault points."""
        log = log or self.folder / f"worker{len(self.workers)}.log"
        name = f"w{len(self.workers)}@%h"
        arguments = ["--loglevel", "WARNING", "--hostname", name]
        born = nursery.context().Process(
            target=nursery.work, args=(self.environ(fault, **more), str(log), arguments), daemon=True
        )
        born.start()
        self.workers.append(Worker(born, log))
        return self.workers[-1]

    def start_workers(self, count, fault=None, **more):
        """So many workers; returns when all show life."""
        started = [self.start_worker(fault, **more) for _ in range(count)]
        self.until(lambda: all(map(self.lives, started)), 30, "the workers show life")
        return started

    def freeze(self, worker):
        """Stop a worker in its tracks, but not with SQLite's lock in its hands: that would stop all others with it."""
        while True:
            worker.signal(signal.SIGSTOP)
            try:
                self.db.write(lambda _: None)
            except errors.DatabaseUnavailable:
                worker.signal(signal.SIGCONT)
            else:
                return

    def lives(self, worker):
        """Whether a worker has entered the table of workers."""
        return any(f":{worker.pid}:" in row.id for row in self.living())

    def living(self):
        """The rows of the workers that show life."""
        return self.db.read(workers.living)

    def client(self, **options):
        """An HTTP client with the key."""
        chosen = {"timeout": 15, "headers": {"Authorization": f"Bearer {self.key}"}} | options
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", **chosen)

    def files(self, count, *more):
        """So many new pictures as (name, bytes), and some more."""
        return [*((f"{n:06}.png", picture(n)) for n, _ in zip(self.numbers, range(count), strict=False)), *more]

    def post(self, client, files, key=None):
        """Hand pictures in as one job; the response. What is acknowledged is remembered."""
        headers = {"Idempotency-Key": key} if key else {}
        parts = [("images", (name, data)) for name, data in files]
        self.attempted |= {name for name, _ in files}
        response = client.post("/v1/jobs", files=parts, headers=headers)
        if response.status_code == 202:
            self.accepted[response.json()["id"]] = [name for name, _ in files]
        return response

    def submit(self, count, *more):
        """Hand in a job of so many pictures without an API, as the API does it; its id."""
        from jobs import blobs, intake, settings

        desk = intake.Intake(settings.Settings(), self.db, blobs.Folder(self.blobs), SilentBell())
        files = self.files(count, *more)
        id_ = desk.create(making.order(self.owner), [intake.Upload(name, data) for name, data in files]).id
        self.accepted[id_] = [name for name, _ in files]
        return id_

    def blob(self, data):
        """Where the bytes of a picture lie."""
        sha256 = hashlib.sha256(data).hexdigest()
        return self.blobs / sha256[:2] / sha256

    def running(self):
        """How many images some worker holds."""
        return self._count("running")

    def done(self):
        """How many images have ended."""
        return self._count(*(status for status in tables.Status if status not in ("queued", "running")))

    def holders(self):
        """The workers that hold images."""
        query = sa.select(making.IMAGES.c.worker).where(making.IMAGES.c.status == "running").distinct()
        return self.db.read(lambda c: c.execute(query).scalars().all())

    def _count(self, *statuses):
        query = sa.select(sa.func.count()).where(making.IMAGES.c.status.in_(statuses))
        return self.db.read(lambda c: c.execute(query).scalar_one())

    def attempts(self):
        """The attempts of every image, by name."""
        return {name: attempt for name, (_, attempt) in making.images(self.db).items()}

    def attempts_of(self, status):
        """The different attempts of the images of a status."""
        return {attempt for each, attempt in making.images(self.db).values() if each == status}

    def results(self):
        """Every result there is: name → (status, error code)."""
        columns = (making.IMAGES.c.name, making.RESULTS.c.status, making.RESULTS.c.error_code)
        query = sa.select(*columns).join(making.RESULTS, making.RESULTS.c.image_id == making.IMAGES.c.id)
        return {name: (status, code) for name, status, code in self.db.read(lambda c: c.execute(query).all())}

    def settle(self, seconds=30, failed=None):
        """Wait until all that was accepted has ended; then each picture has one result, a label or its expected code.

        Args:
            seconds: how long that may take.
            failed: name → error code of the pictures that shall fail.
        """
        expected = {name for names in self.accepted.values() for name in names}
        self.until(
            lambda: self.done() >= len(expected) and not self._count("queued", "running"), seconds, "all have ended"
        )
        found = self.results()
        assert expected <= set(found) <= expected | self.attempted
        codes = {name: code for name, (_, code) in found.items() if code is not None}
        assert codes == (failed or {})
        self.check_books()

    def check_books(self):
        """The invariants hold."""
        for look in (
            invariants.ended_without_result,
            invariants.results_of_open_images,
            invariants.miscounted_jobs,
            invariants.unfinished_complete_jobs,
        ):
            assert self.db.read(look) == 0, look.__name__
        assert self.db.read(invariants.attempted_too_often, max_attempts=self.settings.get("max_attempts", 3)) == 0

    def until(self, true, seconds, what):
        """Wait until something is true; where it does not come true, the logs say why."""
        deadline = time.monotonic() + seconds * SLACK
        while not true():
            if time.monotonic() > deadline:
                logs = [f"{log.name}:\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log"))]
                raise AssertionError(f"not within {seconds} s: {what}\n" + "\n".join(logs))
            time.sleep(0.02)

    def close(self):
        """End what still runs."""
        for worker in self.workers:
            for each in worker.family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            worker.process.join(5)
        if self.api is not None:
            self.kill_api()
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
        self.proxy.close()
        self.db.close()


class SilentBell:
    """Nobody rings."""

    def ring(self):
        """Not heard."""


class Stream:
    """Somebody who hands in small jobs, one after the other, and takes down what comes back.

    Attributes:
        answers: (status code, or the name of the exception; seconds it took) of each request.
    """

    def __init__(self, stack, count=2, pause=0.02, *, retry=False):
        self.stack = stack
        self.count = count
        self.pause = pause
        self.retry = retry
        self.answers = []
        self.name = uuid.uuid4().hex  # not id(self), which the next one may have after us
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flow, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def statuses(self):
        """The different answers."""
        return {status for status, _ in self.answers}

    def slowest(self, share=0.99):
        """The seconds within which such a share of the answers came."""
        took = sorted(seconds for _, seconds in self.answers)
        return took[min(len(took) - 1, int(len(took) * share))]

    def _flow(self):
        with self.stack.client() as client:
            while not self._stop.wait(self.pause):
                started = time.perf_counter()
                status = self._ask(client, self.stack.files(self.count), f"key-{len(self.answers)}-{self.name}")
                self.answers.append((status, time.perf_counter() - started))

    def _ask(self, client, files, key):
        """One request; where nobody listens, or hangs up on us, it is made again under the same key."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.stack.post(client, files, key).status_code
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if not self.retry or time.monotonic() > deadline:
                    return type(error).__name__
                time.sleep(0.05)
