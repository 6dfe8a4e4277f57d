"""The faults of a soak: what each does to the stack, and how it is mended again."""

import contextlib
import os
import signal
import socket
import threading
import time

import psutil
import redis
import sqlalchemy as sa

from jobs import bell, database, rescue, settings
from tests.worker.test_app import letter


class Faults:
    """Every method whose name begins with `hurt_` is a kind of fault; `dice` choose whom and for how long."""

    def __init__(self, stack, load, dice):
        self.stack = stack
        self.load = load
        self.dice = dice
        self.admin = sa.create_engine(stack.server.url(), isolation_level="AUTOCOMMIT")

    @classmethod
    def kinds(cls):
        """Their names."""
        return sorted(name.removeprefix("hurt_") for name in vars(cls) if name.startswith("hurt_"))

    def hurt(self, kind):
        """Do one, and mend it."""
        getattr(self, f"hurt_{kind}")()

    def _worker(self):
        alive = [worker for worker in self.stack.workers if worker.alive]
        return self.dice.choice(alive) if alive else None

    def _signal(self, number):
        worker = self._worker()
        with contextlib.suppress(ProcessLookupError, AttributeError):
            worker.signal(number)
        return worker

    def hurt_worker_killed(self):
        """Kill -9 of a worker with all that it has started."""
        if worker := self._worker():
            self.stack.note_held_by(worker.pid)
            worker.kill()

    def hurt_worker_killed_alone(self):
        """Kill -9 of its main process only."""
        if worker := self._worker():
            self.stack.note_held_by(worker.pid)
            self._of(worker, signal.SIGKILL)

    def hurt_decoder_killed(self):
        """Kill -9 of a decoder."""
        worker = self._worker()
        for child in worker.family()[1:] if worker else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def hurt_worker_frozen(self):
        """Twice its lease, then it goes on."""
        if worker := self._signal(signal.SIGSTOP):
            time.sleep(2 * float(self.stack.settings.get("lease_seconds", settings.Settings().lease_seconds)))
            self._of(worker, signal.SIGCONT)

    def hurt_worker_stopped(self):
        """SIGTERM: it ends well."""
        self._signal(signal.SIGTERM)

    def hurt_worker_stopped_in_a_hurry(self):
        """SIGTERM twice."""
        if worker := self._signal(signal.SIGTERM):
            time.sleep(0.1)
            self._of(worker, signal.SIGTERM)

    def hurt_all_workers_killed(self):
        """Kill -9 of all of them at once."""
        for worker in [worker for worker in self.stack.workers if worker.alive]:
            self.stack.note_held_by(worker.pid)
            worker.kill()

    def _of(self, worker, number):
        with contextlib.suppress(ProcessLookupError):
            worker.signal(number)

    def hurt_api_killed(self):
        """Kill -9 of the API."""
        self.stack.kill_api()

    def hurt_api_child_killed(self):
        """Kill -9 of the process that serves, not of its parent."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.stack.api.pid).children():
                child.kill()

    def hurt_api_stopped(self):
        """SIGTERM: it ends well."""
        self.stack.api.send_signal(signal.SIGTERM)

    def hurt_redis_killed(self):
        """Nothing is kept; away for a moment."""
        self.stack.redis.kill()
        self.stack.redis.wait()
        time.sleep(self.dice.uniform(0.1, 3))
        self.stack.start_redis()

    def hurt_redis_flushed(self):
        """FLUSHALL."""
        with self._redis() as client:
            client.flushall()

    def hurt_redis_refused(self):
        """Nobody listens there."""
        self.stack.proxy.refuse()
        time.sleep(self.dice.uniform(1, 6))
        self.stack.proxy.heal()

    def hurt_redis_swallowed(self):
        """It is there, and no byte comes back: half-open."""
        self.stack.proxy.swallow()
        time.sleep(self.dice.uniform(1, 6))
        self.stack.proxy.heal()

    def hurt_redis_frozen(self):
        """SIGSTOP."""
        self.stack.freeze_redis()
        time.sleep(self.dice.uniform(1, 6))
        self.stack.thaw_redis()

    def hurt_redis_slow(self):
        """Each piece takes a fifth of a second."""
        self.stack.proxy.delay_seconds = 0.2
        time.sleep(4)
        self.stack.proxy.delay_seconds = 0.0

    def hurt_redis_full(self):
        """Maxmemory is reached."""
        with self._redis() as client:
            client.config_set("maxmemory", 1)
            time.sleep(self.dice.uniform(1, 5))
            client.config_set("maxmemory", 0)

    def hurt_redis_failed_over(self):
        """READONLY."""
        with self._redis() as client:
            client.replicaof("127.0.0.1", 1)
            time.sleep(self.dice.uniform(1, 5))
            client.replicaof("NO", "ONE")

    def hurt_redis_flapping(self):
        """Up and down."""
        for _ in range(6):
            self.stack.proxy.refuse()
            time.sleep(0.3)
            self.stack.proxy.heal()
            time.sleep(0.3)

    def hurt_redis_nonsense(self):
        """Messages that are none."""
        with self._redis() as client:
            client.lpush(bell.QUEUE, b"hello", b"[1]", b"{}", letter("os.system"), os.urandom(30))

    def hurt_a_hundred_bells(self):
        """The same message a hundred times."""
        with self._redis() as client:
            client.lpush(bell.QUEUE, *(letter(bell.TASK) for _ in range(100)))

    def _redis(self):
        return redis.Redis(port=self.stack.redis_port, socket_timeout=10)

    def hurt_postgres_restarted(self):
        """A fast restart."""
        self.stack.server.stop(signal.SIGINT)
        time.sleep(self.dice.uniform(0, 2))
        self.stack.server.start()

    def hurt_postgres_crashed(self):
        """An immediate shutdown, and recovery from its log."""
        self.stack.server.stop(signal.SIGQUIT)
        self.stack.server.start()

    def hurt_postgres_frozen(self):
        """SIGSTOP of all of its processes."""
        self.stack.server.freeze()
        time.sleep(self.dice.uniform(1, 5))
        self.stack.server.thaw()

    def hurt_postgres_cut(self):
        """Every connection is cut in the middle of what it says, some times."""
        for _ in range(5):
            self.stack.line.cut()
            time.sleep(0.3)

    def hurt_postgres_swallowed(self):
        """No byte comes back."""
        self.stack.line.swallow()
        time.sleep(self.dice.uniform(1, 4))
        self.stack.line.heal()

    def hurt_postgres_backends_ended(self):
        """pg_terminate_backend of everybody."""
        with self.admin.connect() as c:
            c.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'soak' AND application_name <> 'observer'"
            )

    def hurt_postgres_locked(self):
        """Somebody locks the images for two seconds."""
        engine = sa.create_engine(self.stack.server.url("soak"))
        with engine.connect() as c, c.begin():
            c.exec_driver_sql("LOCK TABLE images IN EXCLUSIVE MODE")
            time.sleep(2)
        engine.dispose()

    def hurt_disk_full(self):
        """No room for pictures; where nobody may mount a small disk, there is none to be filled."""
        if not self.stack.small_disk:
            return
        ballast = self.stack.blobs / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(1_000_000))
                file.flush()
        time.sleep(self.dice.uniform(1, 4))
        ballast.unlink()

    def hurt_picture_gone(self):
        """A picture's bytes are deleted once it is accepted, if they still lie there."""
        self._spoil(lambda path: path.unlink(), "blob_missing")

    def hurt_picture_altered(self):
        """A bit of it is turned."""
        self._spoil(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "blob_corrupt")

    def _spoil(self, how, code):
        files, expected = self.load.good(4)
        files.append((f"spoilt-{files[0][0]}", files[0][1] + b"spoilt"))
        # It may have been classified before it was spoilt.
        expected[files[-1][0]] = {code, *expected[files[0][0]]}
        self.load.hand_in(files, expected)
        with contextlib.suppress(OSError):
            how(self.stack.blob(files[-1][1]))

    def hurt_poison(self):
        """A picture that takes down every worker that looks at it."""
        self.load.poison()

    def hurt_asked_again(self):
        """The same request five times."""
        files, expected = self.load.good(6)
        self.load.hand_in(files, expected, times=5)

    def hurt_slow_clients(self):
        """A hundred that send a head and a byte, and wait."""
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.stack.key}\r\nContent-Length: 99999\r\n"
        )
        lines = []
        with contextlib.suppress(OSError):
            for _ in range(100):
                lines.append(socket.create_connection(("127.0.0.1", self.stack.port), timeout=5))
                lines[-1].sendall(head.encode() + b"Content-Type: image/png\r\n\r\nx")
        time.sleep(3)
        for line in lines:
            line.close()

    def hurt_malformed_requests(self):
        """Garbage on the API's port."""
        for _ in range(30):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.stack.port), 5) as line:
                line.sendall(os.urandom(self.dice.randrange(1, 2000)))

    def hurt_ten_sweepers(self):
        """Ten that rescue at once."""
        dbs = [database.Database(self.stack.database_url) for _ in range(10)]
        threads = [threading.Thread(target=self._sweep, args=(db,)) for db in dbs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _sweep(self, db):
        with contextlib.suppress(Exception):
            rescue.sweep(db, max_attempts=3)
        db.close()
