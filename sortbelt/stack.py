"""The embedded stack: Redis, migrations, API, workers and a courier on one machine, kept alive, stopped together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sortbelt import datafolder, environment, errors, listening, processes, redisserver

TICK_SECONDS = 0.1
READY_SECONDS = 120.0
MOST_DEATHS = 5  # in a row, each soon after a start
MOST_DEATHS_AT_START = 2  # before everything ran for the first time: the set-up is wrong, not the luck
STOP_SECONDS = 20.0  # for a worker to finish the batch at hand
REDIS_STOP_SECONDS = 5.0
PORT_PATIENCE_SECONDS = 10.0  # for the children of an `up` that was killed to let go of the port


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start and where; a URL that is given names a server that runs already."""

    folder: Path
    host: str
    port: int
    database_url: str | None = None
    redis_url: str | None = None
    workers: int = 1


class Broken(errors.SortbeltError):
    """The stack cannot run; `exit_code` says what kind of trouble it is."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stack:
    """The processes of one `sortbelt up`.

    Args:
        plan: what to start; port 0 means any that is free.
        tell: is told what happens, one sentence at a time.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._redis: processes.Child | None = None
        self._servers: list[processes.Child] = []
        self._environment: dict[str, str] = {}
        self._redis_url = plan.redis_url
        self._ready = False
        self._key_file = plan.folder / "admin.key"
        self.port = plan.port
        self.key = ""

    @property
    def url(self) -> str:
        """Where the API answers, as this machine reaches it."""
        return listening.address(self._plan.host, self.port)

    def start(self) -> None:
        """Start everything; returns once the database is migrated.

        Raises:
            errors.BadInput: the port is taken, or there is no Redis to start.
            Broken: the database cannot be used.
        """
        folder = self._plan.folder
        killed_before = datafolder.last_announced(folder)
        self.port = listening.free_port(
            self._plan.host, self._plan.port, PORT_PATIENCE_SECONDS if killed_before else 0.0
        )
        if killed_before:
            redisserver.remove_socket(killed_before.redis_url)
        datafolder.withdraw(folder)
        self._key_file = datafolder.admin_key(folder)
        self.key = self._key_file.read_text(encoding="utf-8").strip()
        self._start_redis()
        self._environment = environment.of_children(
            folder,
            database_url=self._plan.database_url,
            redis_url=self._redis_url,
            host=self._plan.host,
            port=self.port,
        )
        self._start_servers()
        self._migrate()

    def _start_redis(self) -> None:
        if self._redis_url or {"SORTBELT_REDIS_URL", "SORTBELT_REDIS_URL_FILE"} & os.environ.keys():
            return
        server = redisserver.program()
        path = redisserver.socket_folder() / "redis.sock"
        self._redis_url = f"{redisserver.SCHEME}{path}"
        command = redisserver.command(server, path, self._plan.folder / "redis")
        self._redis = processes.Child(self._program("redis", command, dict(os.environ)))
        self._redis.start()

    def _migrate(self) -> None:
        child = subprocess.run(
            [sys.executable, "-m", "migrations"], env=self._environment, capture_output=True, text=True, check=False
        )
        (self._plan.folder / "logs" / "migrations.log").write_text(child.stderr, encoding="utf-8")
        if child.returncode:
            last = child.stderr.strip().splitlines()[-1:] or ["The database could not be brought up to date."]
            raise Broken(last[0].removeprefix("sortbelt: "), child.returncode if child.returncode > 0 else 1)

    def _start_servers(self) -> None:
        """Start the servers: they load what they need while the database is migrated, and wait for it."""
        self._serve("api", [sys.executable, "-m", "api"])
        for number in range(1, self._plan.workers + 1):
            name = f"worker{number}"
            self._serve(name, [sys.executable, "-m", "worker", "--loglevel", "WARNING", "--hostname", f"{name}@%h"])

    def _serve(self, name: str, command: Sequence[str]) -> None:
        self._servers.append(processes.Child(self._program(name, command, self._environment)))
        self._servers[-1].start()

    def _program(self, name: str, command: Sequence[str], environ: dict[str, str]) -> processes.Program:
        return processes.Program(name, command, environ, self._plan.folder / "logs" / f"{name}.log")

    def until_ready(self) -> Iterator[None]:
        """Tick until the API, the database and a worker answer, and tell this machine's clients where.

        Raises:
            Broken: something died again and again, or it took too long.
        """
        until = time.monotonic() + READY_SECONDS
        while why := listening.why_not_ready(self.url, self.key):
            if time.monotonic() > until:
                raise Broken(
                    f"Not ready after {READY_SECONDS:g} s: {why}. The logs are in {self._plan.folder}/logs.", 1
                )
            self.tend()
            yield
            time.sleep(TICK_SECONDS)
        self._ready = True
        # Last: nobody waits for it, and it would only take time from those who are waited for.
        self._serve("courier", [sys.executable, "-m", "jobs.courier"])
        private = self._redis_url if self._redis and self._redis_url else ""
        up = datafolder.Running(self.url, str(self._key_file), os.getpid(), private)
        datafolder.announce(self._plan.folder, up)

    def tend(self) -> None:
        """Start again what died.

        Raises:
            Broken: one of the servers died again and again as soon as it was started.
        """
        for child in self._children():
            said = child.tend()
            if said is None:
                continue
            # Redis is only the bell: the work goes on without it, and it may come back.
            if child is not self._redis and self._hopeless(child):
                log = child.program.log
                raise Broken(f"{child.program.name} died again and again; {log} ends so:\n{child.last_lines()}", 1)
            self._tell(said)

    def _hopeless(self, child: processes.Child) -> bool:
        return child.deaths_in_a_row >= MOST_DEATHS or (not self._ready and child.deaths >= MOST_DEATHS_AT_START)

    def _children(self) -> Iterator[processes.Child]:
        yield from self._servers
        if self._redis:
            yield self._redis

    def stop(self, hurry: Callable[[], bool]) -> None:
        """End everything: the servers first, which finish what they have at hand, then Redis.

        Args:
            hurry: tells whether there is no time for that any more.
        """
        _end(self._servers, STOP_SECONDS, hurry)
        _end([self._redis] if self._redis else [], REDIS_STOP_SECONDS, hurry)
        datafolder.withdraw(self._plan.folder)
        if self._redis:
            redisserver.remove_socket(self._redis_url or "")


def _end(children: Sequence[processes.Child], seconds: float, hurry: Callable[[], bool]) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    until = time.monotonic() + seconds
    while any(child.alive for child in children) and time.monotonic() < until and not hurry():
        time.sleep(TICK_SECONDS / 2)
    for child in children:
        child.signal_all(signal.SIGKILL)
