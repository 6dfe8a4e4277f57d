"""The peers as servers: how each is started, what may be tuned, and which setting is best on this machine."""

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench import load, loop, names, processes, single
from sortbelt import redisserver

ROOT = Path(__file__).parent.parent.parent
BIN = ROOT / ".venv-bench" / "bin"
NOT_THERE = "the peers are not installed: `make bench` does it"
READY_SECONDS = 120.0
STOP_SECONDS = 10.0
WARM_SECONDS = 3.0
WARM_CALLERS = 64
CORES = loop.CORES

Settings = Mapping[str, int]


@dataclass(frozen=True)
class Peer:
    """One peer."""

    name: str
    libraries: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    """What to start, in `.venv-bench/bin`; {port} and the settings are filled in."""
    grid: tuple[Settings, ...]
    """Settings to choose from; the first is taken where nothing is searched."""
    path: str = "/predict"
    form: str | None = None
    """The field of a multipart form that takes the picture, where a raw body is not taken."""
    submit: str | None = None
    """Where a picture is only taken in."""
    redis: bool = False


PEERS = (
    Peer(
        "mosec",
        ("mosec",),
        (("python", "-m", "bench.peers.mosec_server"),),
        (
            {"decoders": CORES, "workers": 1, "batch": 32, "wait_ms": 5},
            {"decoders": CORES, "workers": 1, "batch": 32, "wait_ms": 1},
            {"decoders": 0, "workers": CORES, "batch": 16, "wait_ms": 5},
            {"decoders": 0, "workers": CORES, "batch": 16, "wait_ms": 1},
        ),
        path="/inference",
    ),
    Peer(
        "LitServe",
        ("litserve",),
        (("python", "-m", "bench.peers.litserve_server"),),
        (
            {"workers": CORES, "servers": 1, "batch": 16, "wait_ms": 5},
            {"workers": CORES, "servers": CORES, "batch": 16, "wait_ms": 5},
            {"workers": CORES, "servers": 1, "batch": 16, "wait_ms": 1},
            {"workers": 1, "servers": 1, "batch": 32, "wait_ms": 5, "torch_threads": CORES},
        ),
    ),
    Peer(
        "BentoML",
        ("bentoml",),
        (("bentoml", "serve", "bench.peers.bentoml_server:Photos", "--host", "127.0.0.1", "--port", "{port}"),),
        (
            {"workers": CORES, "batch": 32, "latency_ms": 1000},
            {"workers": CORES, "batch": 32, "latency_ms": 100},
            {"workers": CORES, "batch": 8, "latency_ms": 1000},
            {"workers": 1, "batch": 32, "latency_ms": 1000, "torch_threads": CORES},
        ),
        form="pictures",
    ),
    Peer(
        names.TUTORIAL,
        ("flask", "celery", "gunicorn"),
        (
            ("celery", "-A", "bench.peers.tutorial_celery", "worker", "-c", "{tasks}", "--loglevel", "ERROR"),
            (
                *("gunicorn", "bench.peers.tutorial_flask:app", "-b", "127.0.0.1:{port}", "-k", "gthread"),
                *("-w", "{web}", "--threads", "{threads}", "--log-level", "error"),
            ),
        ),
        (
            {"tasks": CORES, "web": 2, "threads": 32},
            {"tasks": CORES, "web": 1, "threads": 64},
            {"tasks": 1, "web": 2, "threads": 32, "torch_threads": CORES},
        ),
        submit="/submit",
        redis=True,
    ),
)


@dataclass(frozen=True)
class Served:
    """A peer that answers."""

    peer: Peer
    url: str
    roots: tuple[int, ...]

    def warm(self, bodies: Sequence[bytes]) -> None:
        """Load it until what is slow at first is over, in every thread that it has."""
        load.run(self.url + self.peer.path, bodies, connections=WARM_CALLERS, seconds=WARM_SECONDS, form=self.peer.form)

    def measure(self, path: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> single.Single:
        """Load one of its paths."""
        form = self.peer.form
        return single.measure(
            self.url + path,
            bodies,
            lambda: processes.usage(*self.roots),
            connections=connections,
            seconds=seconds,
            form=form,
            status=202 if path == self.peer.submit else 200,
        )


def installed() -> bool:
    """Whether the peers' own virtual environment is there."""
    return (BIN / "python").exists()


def versions(peer: Peer) -> dict[str, str]:
    """The versions of a peer's libraries."""
    site = [str(path) for path in (ROOT / ".venv-bench").glob("lib/python3*/site-packages")]
    found = {some.name.lower(): some.version for some in importlib.metadata.distributions(path=site)}
    return {library: found[library] for library in peer.libraries}


def best(peer: Peer, bodies: Sequence[bytes], *, connections: int, seconds: float) -> tuple[Settings, dict[str, float]]:
    """The setting with the most answers a second, and what each gave."""
    rates: dict[str, float] = {}
    chosen, most = peer.grid[0], -1.0
    for settings in peer.grid:
        with serve(peer, settings, bodies[0]) as served:
            served.warm(bodies)
            rate = served.measure(peer.path, bodies, connections=connections, seconds=seconds).load.rate
        rates[written(settings)] = round(rate, 1)
        chosen, most = (settings, rate) if rate > most else (chosen, most)
    return chosen, rates


def written(settings: Settings) -> str:
    """Settings in a line."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


@contextlib.contextmanager
def serve(peer: Peer, settings: Settings, body: bytes) -> Iterator[Served]:
    """Start a peer; it is ready when it has labelled this picture."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sortbelt-peer-")))
        port = _free_port()
        environment = _environment(settings) | {"BENCH_PORT": str(port)}
        commands = [[str(BIN / command[0]), *command[1:]] for command in peer.commands]
        if peer.redis:
            environment["BENCH_REDIS"] = f"{redisserver.SCHEME}{work}/redis.sock"
            (work / "redis").mkdir()
            commands.insert(0, list(redisserver.command(redisserver.program(), work / "redis.sock", work / "redis")))
        started = [
            stack.enter_context(_running([word.format(port=port, **settings) for word in command], environment, work))
            for command in commands
        ]
        served = Served(peer, f"http://127.0.0.1:{port}", tuple(process.pid for process in started))
        _wait(served, body, started, work)
        yield served


def _environment(settings: Settings) -> dict[str, str]:
    ours = {f"BENCH_{name.upper()}": str(value) for name, value in settings.items()}
    threads = {"OMP_NUM_THREADS": str(settings.get("torch_threads", 1)), "PYTHONPATH": str(ROOT)}
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false"}
    return {**os.environ, **ours, **threads, **quiet}


@contextlib.contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str], work: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (work / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it has left behind
        process.wait()


def _wait(served: Served, body: bytes, started: Sequence["subprocess.Popen[bytes]"], work: Path) -> None:
    """Ask until it labels a picture.

    Raises:
        RuntimeError: one of its processes has ended, or none has answered for too long.
    """
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and all(process.poll() is None for process in started):
        with contextlib.suppress(httpx.TransportError):
            if load.label_in(_ask(served, body)):
                return
        time.sleep(0.2)
    end = (work / "log").read_text("utf-8", "replace").strip()[-500:]
    raise RuntimeError(f"{served.peer.name} does not serve: {end}")


def _ask(served: Served, body: bytes) -> object:
    url = served.url + served.peer.path
    if served.peer.form:
        answer = httpx.post(url, files={served.peer.form: ("a.jpg", body, "image/jpeg")}, timeout=60)
    else:
        answer = httpx.post(url, content=body, headers={"Content-Type": "image/jpeg"}, timeout=60)
    return answer.json() if answer.is_success else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
