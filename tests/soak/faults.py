"""Faults of the soak test: what each does to the stack, and how it is repaired."""

import contextlib
import os
import signal
import socket
import threading
import time

import psutil
import redis
import sqlalchemy as sa

from core import settings
from core.broker import celery_app
from core.db import database
from core.maintenance import reaper
from tests.support import celery_messages

OUTAGES = {
    "all_workers_killed",
    "api_child_killed",
    "api_killed",
    "api_stopped",
    "disk_full",
    "postgres_backends_terminated",
    "postgres_blackholed",
    "postgres_connections_cut",
    "postgres_crashed",
    "postgres_frozen",
    "postgres_locked",
    "postgres_restarted",
}
"""Kinds of faults that take away what every request needs: until it is back, no image can be processed."""
RESTART_SECONDS = 60  # the supervisor takes less than a second, except on a machine that has no CPU time for it


class FaultInjector:
    """Injector whose `inject_…` methods are the kinds of faults; `rng` chooses victims and durations.

    Attributes:
        outages: (start, end) of each time without a service, by the monotonic clock.
    """

    def __init__(self, stack, load, rng):
        self.stack = stack
        self.load = load
        self.rng = rng
        self.outages = []
        self.admin = sa.create_engine(stack.server.url(), isolation_level="AUTOCOMMIT")

    @classmethod
    def kinds(cls):
        """Return the names of all kinds of faults."""
        return sorted(name.removeprefix("inject_") for name in vars(cls) if name.startswith("inject_"))

    def inject(self, kind):
        """Inject one fault, and repair it; after an outage, wait until API and a worker serve again."""
        started = time.monotonic()
        try:
            getattr(self, f"inject_{kind}")()
            if kind in OUTAGES:
                self.stack.wait_until_it_serves(RESTART_SECONDS)
        finally:
            if kind in OUTAGES:
                self.outages.append((started, time.monotonic()))

    def _random_worker(self):
        """Return a worker that is alive; wait for the supervisor to restart one if need be."""
        deadline = time.monotonic() + RESTART_SECONDS
        while not (alive := [worker for worker in self.stack.workers if worker.is_alive]):
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        return self.rng.choice(alive)

    def _signal_random_worker(self, signal_number):
        worker = self._random_worker()
        with contextlib.suppress(ProcessLookupError, AttributeError):
            worker.signal(signal_number)
        return worker

    def inject_worker_killed(self):
        """SIGKILL a worker and all of its child processes."""
        if worker := self._random_worker():
            self.stack.record_claims_of(worker.pid)
            worker.kill()

    def inject_worker_killed_alone(self):
        """SIGKILL only the main process of a worker."""
        if worker := self._random_worker():
            self.stack.record_claims_of(worker.pid)
            self._send_signal(worker, signal.SIGKILL)

    def inject_decoder_killed(self):
        """SIGKILL the decoder processes of a worker."""
        worker = self._random_worker()
        for child in worker.process_tree()[1:] if worker else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def inject_worker_frozen(self):
        """SIGSTOP a worker for twice its lease, then SIGCONT it."""
        if worker := self._signal_random_worker(signal.SIGSTOP):
            time.sleep(2 * float(self.stack.settings.get("lease_seconds", settings.Settings().lease_seconds)))
            self._send_signal(worker, signal.SIGCONT)

    def inject_worker_stopped(self):
        """SIGTERM a worker once: a graceful shutdown."""
        self._signal_random_worker(signal.SIGTERM)

    def inject_worker_stopped_in_a_hurry(self):
        """SIGTERM a worker twice: an immediate shutdown."""
        if worker := self._signal_random_worker(signal.SIGTERM):
            time.sleep(0.1)
            self._send_signal(worker, signal.SIGTERM)

    def inject_all_workers_killed(self):
        """SIGKILL all workers at once."""
        for worker in [worker for worker in self.stack.workers if worker.is_alive]:
            self.stack.record_claims_of(worker.pid)
            worker.kill()

    def _send_signal(self, worker, signal_number):
        with contextlib.suppress(ProcessLookupError):
            worker.signal(signal_number)

    def inject_api_killed(self):
        """SIGKILL the API with its child processes."""
        self.stack.kill_api()

    def inject_api_child_killed(self):
        """SIGKILL the API's serving process, not its parent."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.stack.api.pid).children():
                child.kill()

    def inject_api_stopped(self):
        """SIGTERM the API: a graceful shutdown."""
        self.stack.api.send_signal(signal.SIGTERM)

    def inject_redis_killed(self):
        """SIGKILL Redis, losing its contents, and restart it within 3 s."""
        self.stack.redis.kill()
        self.stack.redis.wait()
        time.sleep(self.rng.uniform(0.1, 3))
        self.stack.start_redis()

    def inject_redis_flushed(self):
        """Delete everything in Redis (FLUSHALL)."""
        with self._redis_client() as client:
            client.flushall()

    def inject_redis_refused(self):
        """Refuse connections to Redis for 1 to 6 s."""
        self.stack.proxy.refuse()
        time.sleep(self.rng.uniform(1, 6))
        self.stack.proxy.heal()

    def inject_redis_blackholed(self):
        """Accept connections to Redis, but pass nothing on for 1 to 6 s (half-open)."""
        self.stack.proxy.blackhole()
        time.sleep(self.rng.uniform(1, 6))
        self.stack.proxy.heal()

    def inject_redis_frozen(self):
        """SIGSTOP Redis for 1 to 6 s."""
        self.stack.freeze_redis()
        time.sleep(self.rng.uniform(1, 6))
        self.stack.thaw_redis()

    def inject_redis_slow(self):
        """Delay each chunk to and from Redis by 0.2 s, for 4 s."""
        self.stack.proxy.delay_seconds = 0.2
        time.sleep(4)
        self.stack.proxy.delay_seconds = 0.0

    def inject_redis_full(self):
        """Make Redis run out of memory (maxmemory) for 1 to 5 s."""
        with self._redis_client() as client:
            client.config_set("maxmemory", 1)
            time.sleep(self.rng.uniform(1, 5))
            client.config_set("maxmemory", 0)

    def inject_redis_failed_over(self):
        """Make Redis a read-only replica for 1 to 5 s."""
        with self._redis_client() as client:
            client.replicaof("127.0.0.1", 1)
            time.sleep(self.rng.uniform(1, 5))
            client.replicaof("NO", "ONE")

    def inject_redis_flapping(self):
        """Refuse and accept connections to Redis in turn, every 0.3 s."""
        for _ in range(6):
            self.stack.proxy.refuse()
            time.sleep(0.3)
            self.stack.proxy.heal()
            time.sleep(0.3)

    def inject_redis_invalid_messages(self):
        """Push messages that are not valid Celery messages."""
        with self._redis_client() as client:
            client.lpush(
                celery_app.QUEUE_NAME,
                b"hello",
                b"[1]",
                b"{}",
                celery_messages.encode("os.system"),
                os.urandom(30),
            )

    def inject_duplicate_wakeups(self):
        """Push the same wake-up message a hundred times."""
        with self._redis_client() as client:
            client.lpush(celery_app.QUEUE_NAME, *(celery_messages.encode(celery_app.TASK_NAME) for _ in range(100)))

    def _redis_client(self):
        return redis.Redis(port=self.stack.redis_port, socket_timeout=10)

    def inject_postgres_restarted(self):
        """Restart PostgreSQL in `fast` mode."""
        self.stack.server.stop(signal.SIGINT)
        time.sleep(self.rng.uniform(0, 2))
        self.stack.server.start()

    def inject_postgres_crashed(self):
        """Shut PostgreSQL down in `immediate` mode, so that it recovers from its log."""
        self.stack.server.stop(signal.SIGQUIT)
        self.stack.server.start()

    def inject_postgres_frozen(self):
        """SIGSTOP all PostgreSQL processes for 1 to 5 s."""
        self.stack.server.freeze()
        time.sleep(self.rng.uniform(1, 5))
        self.stack.server.thaw()

    def inject_postgres_connections_cut(self):
        """Cut every connection to PostgreSQL in mid-stream, five times."""
        for _ in range(5):
            self.stack.postgres_proxy.cut_connections()
            time.sleep(0.3)

    def inject_postgres_blackholed(self):
        """Pass nothing on between clients and PostgreSQL for 1 to 4 s."""
        self.stack.postgres_proxy.blackhole()
        time.sleep(self.rng.uniform(1, 4))
        self.stack.postgres_proxy.heal()

    def inject_postgres_backends_terminated(self):
        """Terminate every backend of the database but the observer's (pg_terminate_backend)."""
        with self.admin.connect() as conn:
            conn.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'soak' AND application_name <> 'observer'"
            )

    def inject_postgres_locked(self):
        """Hold an exclusive lock on the images table for 2 s."""
        engine = sa.create_engine(self.stack.server.url("soak"))
        with engine.connect() as conn, conn.begin():
            conn.exec_driver_sql("LOCK TABLE images IN EXCLUSIVE MODE")
            time.sleep(2)
        engine.dispose()

    def inject_disk_full(self):
        """Fill the blob store's disk for 1 to 4 s; do nothing where no small disk could be mounted."""
        if not self.stack.small_disk:
            return
        ballast = self.stack.blobs / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(1_000_000))
                file.flush()
        time.sleep(self.rng.uniform(1, 4))
        ballast.unlink()

    def inject_blob_deleted(self):
        """Delete an image's blob after the image was accepted, if the blob is still there."""
        self._submit_and_damage(lambda path: path.unlink(), "blob_missing")

    def inject_blob_corrupted(self):
        """Change the last byte of an image's blob after the image was accepted."""
        self._submit_and_damage(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "blob_corrupt")

    def _submit_and_damage(self, damage, error_code):
        files, expected = self.load.make_good_files(4)
        files.append((f"damaged-{files[0][0]}", files[0][1] + b"damaged"))
        # The image may have been classified before its blob was damaged.
        expected[files[-1][0]] = {error_code, *expected[files[0][0]]}
        self.load.submit(files, expected)
        with contextlib.suppress(OSError):
            damage(self.stack.blob_path(files[-1][1]))

    def inject_poison_image(self):
        """Submit an image that crashes every worker that processes it."""
        self.load.submit_poison_image()

    def inject_repeated_submission(self):
        """Send the same submission five times under one idempotency key."""
        files, expected = self.load.make_good_files(6)
        self.load.submit(files, expected, times=5)

    def inject_slow_clients(self):
        """Open 100 connections that send a request head and one byte, and then wait."""
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.stack.key}\r\nContent-Length: 99999\r\n"
        )
        sockets = []
        with contextlib.suppress(OSError):
            for _ in range(100):
                sockets.append(socket.create_connection(("127.0.0.1", self.stack.port), timeout=5))
                sockets[-1].sendall(head.encode() + b"Content-Type: image/png\r\n\r\nx")
        time.sleep(3)
        for sock in sockets:
            sock.close()

    def inject_malformed_requests(self):
        """Send random bytes to the API's port, 30 times."""
        for _ in range(30):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.stack.port), 5) as sock:
                sock.sendall(os.urandom(self.rng.randrange(1, 2000)))

    def inject_concurrent_reapers(self):
        """Run ten reapers at the same time."""
        databases = [database.Database(self.stack.database_url) for _ in range(10)]
        threads = [threading.Thread(target=self._run_reaper, args=(db,)) for db in databases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run_reaper(self, db):
        with contextlib.suppress(Exception):
            reaper.reap(db, max_attempts=3)
        db.close()
