"""Supervisor of `sortbelt up`: Redis, migrations, API, workers and dispatcher on one machine."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sortbelt import errors
from sortbelt.local import child_env, child_process, data_directory, ports, redis_server

POLL_SECONDS = 0.1
READY_TIMEOUT_SECONDS = 120.0
MAX_CONSECUTIVE_CRASHES = 5  # each soon after a start
MAX_CRASHES_BEFORE_READY = 2  # before the stack was ready for the first time: the setup is wrong
STOP_TIMEOUT_SECONDS = 20.0  # for a worker to finish its batch
REDIS_STOP_TIMEOUT_SECONDS = 5.0
PORT_TIMEOUT_SECONDS = 10.0  # for the children of an `up` that was killed to release the port


@dataclass(frozen=True, slots=True)
class StackConfig:
    """Options of a stack: its processes and addresses; a database or Redis with a URL is expected to run already."""

    folder: Path
    host: str
    port: int
    database_url: str | None = None
    redis_url: str | None = None
    workers: int = 1


class StackFailed(errors.SortbeltError):
    """The stack cannot run; `exit_code` is that of the command."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Supervisor:
    """Processes of one `sortbelt up`.

    Args:
        config: what to start; port 0 is any free port.
        notify: called with a message when a process is restarted.
    """

    def __init__(self, config: StackConfig, notify: Callable[[str], None]) -> None:
        self._config = config
        self._notify = notify
        self._redis: child_process.SupervisedProcess | None = None
        self._servers: list[child_process.SupervisedProcess] = []
        self._environment: dict[str, str] = {}
        self._redis_url = config.redis_url
        self._ready = False
        self._key_file = config.folder / "admin.key"
        self.port = config.port
        self.key = ""

    @property
    def url(self) -> str:
        """Return the URL of the API, as this machine reaches it."""
        return ports.base_url(self._config.host, self.port)

    def start(self) -> None:
        """Start all processes; return once the database is migrated.

        Raises:
            errors.BadInput: the port is in use, or there is no Redis to start.
            StackFailed: the database cannot be used.
        """
        folder = self._config.folder
        stale_announcement = data_directory.read_announcement(folder)
        self.port = ports.find_free_port(
            self._config.host, self._config.port, PORT_TIMEOUT_SECONDS if stale_announcement else 0.0
        )
        if stale_announcement:
            redis_server.remove_socket(stale_announcement.redis_url)
        data_directory.remove_announcement(folder)
        self._key_file = data_directory.ensure_admin_key_file(folder)
        self.key = self._key_file.read_text(encoding="utf-8").strip()
        self._start_redis()
        self._environment = child_env.child_environment(
            folder,
            database_url=self._config.database_url,
            redis_url=self._redis_url,
            host=self._config.host,
            port=self.port,
        )
        self._start_servers()
        self._migrate()

    def _start_redis(self) -> None:
        if self._redis_url or {"SORTBELT_REDIS_URL", "SORTBELT_REDIS_URL_FILE"} & os.environ.keys():
            return
        server = redis_server.find_server()
        path = redis_server.make_socket_dir() / "redis.sock"
        self._redis_url = f"{redis_server.SOCKET_URL_SCHEME}{path}"
        command = redis_server.server_command(server, path, self._config.folder / "redis")
        self._redis = child_process.SupervisedProcess(self._make_program("redis", command, dict(os.environ)))
        self._redis.start()

    def _migrate(self) -> None:
        completed = subprocess.run(
            child_env.server_command("migrations"),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            umask=child_process.PRIVATE_UMASK,
        )
        (self._config.folder / "logs" / "migrations.log").write_text(completed.stderr, encoding="utf-8")
        if completed.returncode:
            last_line = completed.stderr.strip().splitlines()[-1:] or ["The database could not be migrated."]
            raise StackFailed(
                last_line[0].removeprefix("sortbelt: "), completed.returncode if completed.returncode > 0 else 1
            )

    def _start_servers(self) -> None:
        """Start API and workers: they load while the database is migrated, and wait for it."""
        self._start_server("api", "api")
        for number in range(1, self._config.workers + 1):
            name = f"worker{number}"
            self._start_server(name, "worker", "--loglevel", "WARNING", "--hostname", f"{name}@%h")

    def _start_server(self, name: str, module: str, *arguments: str) -> None:
        program = self._make_program(name, child_env.server_command(module, *arguments), self._environment)
        self._servers.append(child_process.SupervisedProcess(program))
        self._servers[-1].start()

    def _make_program(self, name: str, command: Sequence[str], environ: dict[str, str]) -> child_process.Program:
        return child_process.Program(name, command, environ, self._config.folder / "logs" / f"{name}.log")

    def wait_until_ready(self) -> Iterator[None]:
        """Yield at least once and until API, database and a worker are ready; then announce the server on this machine.

        Raises:
            StackFailed: a process keeps exiting, or startup takes too long.
        """
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        yield  # Starting and migrating may have taken so long that all is ready now.
        while reason := ports.not_ready_reason(self.url, self.key):
            if time.monotonic() > deadline:
                logs = self._config.folder / "logs"
                raise StackFailed(f"Not ready after {READY_TIMEOUT_SECONDS:g} s ({reason}): see the logs in {logs}.", 1)
            self.check()
            time.sleep(POLL_SECONDS)
            yield
        self._ready = True
        # Last: readiness does not depend on it, and it would slow the start of the others.
        self._start_server("dispatcher", "dispatcher")
        private_redis_url = self._redis_url if self._redis and self._redis_url else ""
        announcement = data_directory.RunningServer(self.url, str(self._key_file), os.getpid(), private_redis_url)
        data_directory.write_announcement(self._config.folder, announcement)

    def check(self) -> None:
        """Restart processes that have exited.

        Raises:
            StackFailed: one of them keeps exiting soon after its start.
        """
        for child in self._children():
            message = child.check()
            if message is None:
                continue
            # Work goes on without Redis, which only wakes the workers.
            if child is not self._redis and self._is_crash_looping(child):
                log = child.program.log
                raise StackFailed(f"{child.program.name} keeps exiting; the end of {log}:\n{child.last_lines()}", 1)
            self._notify(message)

    def _is_crash_looping(self, child: child_process.SupervisedProcess) -> bool:
        return child.consecutive_crashes >= MAX_CONSECUTIVE_CRASHES or (
            not self._ready and child.crashes >= MAX_CRASHES_BEFORE_READY
        )

    def _children(self) -> Iterator[child_process.SupervisedProcess]:
        yield from self._servers
        if self._redis:
            yield self._redis

    def stop(self, is_forced: Callable[[], bool]) -> None:
        """Stop the servers, which finish their batches first, then Redis.

        Args:
            is_forced: returns True to stop waiting and kill them.
        """
        _stop_processes(self._servers, STOP_TIMEOUT_SECONDS, is_forced)
        _stop_processes([self._redis] if self._redis else [], REDIS_STOP_TIMEOUT_SECONDS, is_forced)
        data_directory.remove_announcement(self._config.folder)
        if self._redis:
            redis_server.remove_socket(self._redis_url or "")


def _stop_processes(
    children: Sequence[child_process.SupervisedProcess], timeout: float, is_forced: Callable[[], bool]
) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while any(child.is_alive for child in children) and time.monotonic() < deadline and not is_forced():
        time.sleep(POLL_SECONDS / 2)
    for child in children:
        child.signal_all(signal.SIGKILL)
