"""Peer servers: how each is started, its tunable settings, and the search for the best ones on this machine."""

import contextlib
import importlib.metadata
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import figure_names, harness, load_generator, process_usage, single_image
from sortbelt.local import ports, redis_server

ROOT = Path(__file__).parent.parent.parent
BIN = ROOT / ".venv-bench" / "bin"
NOT_INSTALLED_MESSAGE = "the other servers are not installed; `make bench` installs them"
READY_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 10.0
WARMUP_SECONDS = 3.0
WARMUP_CONNECTIONS = 64
CORES = harness.CORES

Settings = Mapping[str, int]


@dataclass(frozen=True)
class Peer:
    """How to start and load one peer."""

    name: str
    libraries: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    """Commands to start, in `.venv-bench/bin`; {port} and the settings are filled in."""
    settings_grid: tuple[Settings, ...]
    """Settings to choose from; the first is used without a search."""
    path: str = "/predict"
    form_field: str | None = None
    """Field of a multipart form that takes the image; None sends a raw body."""
    submit_path: str | None = None
    """Path that only accepts an image, if there is one."""
    needs_redis: bool = False


PEERS = (
    Peer(
        "mosec",
        ("mosec",),
        (("python", "-m", "benchmarks.peers.mosec_server"),),
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
        (("python", "-m", "benchmarks.peers.litserve_server"),),
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
        (
            (
                "bentoml",
                "serve",
                "benchmarks.peers.bentoml_server:ImageClassifier",
                "--host",
                "127.0.0.1",
                "--port",
                "{port}",
            ),
        ),
        (
            {"workers": CORES, "batch": 32, "latency_ms": 1000},
            {"workers": CORES, "batch": 32, "latency_ms": 100},
            {"workers": CORES, "batch": 8, "latency_ms": 1000},
            {"workers": 1, "batch": 32, "latency_ms": 1000, "torch_threads": CORES},
        ),
        form_field="images",
    ),
    Peer(
        figure_names.TUTORIAL,
        ("flask", "celery", "gunicorn"),
        (
            ("celery", "-A", "benchmarks.peers.tutorial_celery", "worker", "-c", "{tasks}", "--loglevel", "ERROR"),
            (
                *("gunicorn", "benchmarks.peers.tutorial_flask:app", "-b", "127.0.0.1:{port}", "-k", "gthread"),
                *("-w", "{web}", "--threads", "{threads}", "--log-level", "error"),
            ),
        ),
        (
            {"tasks": CORES, "web": 2, "threads": 32},
            {"tasks": CORES, "web": 1, "threads": 64},
            {"tasks": 1, "web": 2, "threads": 32, "torch_threads": CORES},
        ),
        submit_path="/submit",
        needs_redis=True,
    ),
)


@dataclass(frozen=True)
class PeerServer:
    """A running peer."""

    peer: Peer
    url: str
    root_pids: tuple[int, ...]

    def warm_up(self, bodies: Sequence[bytes]) -> None:
        """Load it for a while, so that every thread has warmed up."""
        load_generator.run(
            self.url + self.peer.path,
            bodies,
            connections=WARMUP_CONNECTIONS,
            seconds=WARMUP_SECONDS,
            form_field=self.peer.form_field,
        )

    def measure(
        self, path: str, bodies: Sequence[bytes], *, connections: int, seconds: float
    ) -> single_image.SingleImageResult:
        """Measure one of its paths under load."""
        form_field = self.peer.form_field
        return single_image.measure(
            self.url + path,
            bodies,
            lambda: process_usage.usage(*self.root_pids),
            connections=connections,
            seconds=seconds,
            form_field=form_field,
            status=202 if path == self.peer.submit_path else 200,
        )


def is_installed() -> bool:
    """Return whether the peers' virtual environment exists."""
    return (BIN / "python").exists()


def library_versions(peer: Peer) -> dict[str, str]:
    """Return the versions of a peer's libraries."""
    site_packages = [str(path) for path in (ROOT / ".venv-bench").glob("lib/python3*/site-packages")]
    version_by_name = {
        distribution.name.lower(): distribution.version
        for distribution in importlib.metadata.distributions(path=site_packages)
    }
    return {library: version_by_name[library] for library in peer.libraries}


def search_settings(
    peer: Peer, bodies: Sequence[bytes], *, connections: int, seconds: float
) -> tuple[Settings, dict[str, float]]:
    """Return the settings with the highest rate, and the rate of each."""
    rates: dict[str, float] = {}
    best_settings, best_rate = peer.settings_grid[0], -1.0
    for settings in peer.settings_grid:
        with serve(peer, settings, bodies[0]) as server:
            server.warm_up(bodies)
            rate = server.measure(peer.path, bodies, connections=connections, seconds=seconds).load.rate
        rates[format_settings(settings)] = round(rate, 1)
        best_settings, best_rate = (settings, rate) if rate > best_rate else (best_settings, best_rate)
    return best_settings, rates


def format_settings(settings: Settings) -> str:
    """Format settings on one line."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


@contextlib.contextmanager
def serve(peer: Peer, settings: Settings, body: bytes) -> Iterator[PeerServer]:
    """Start a peer, and wait until it has labelled `body`."""
    with contextlib.ExitStack() as exit_stack:
        work_dir = Path(exit_stack.enter_context(tempfile.TemporaryDirectory(prefix="sortbelt-peer-")))
        port = ports.find_free_port("127.0.0.1", 0, 0.0)
        environment = _environment(settings) | {"BENCH_PORT": str(port)}
        commands = [[str(BIN / command[0]), *command[1:]] for command in peer.commands]
        if peer.needs_redis:
            environment["BENCH_REDIS"] = f"{redis_server.SOCKET_URL_SCHEME}{work_dir}/redis.sock"
            (work_dir / "redis").mkdir()
            commands.insert(
                0,
                list(
                    redis_server.server_command(redis_server.find_server(), work_dir / "redis.sock", work_dir / "redis")
                ),
            )
        children = [
            exit_stack.enter_context(
                _run_process([word.format(port=port, **settings) for word in command], environment, work_dir)
            )
            for command in commands
        ]
        server = PeerServer(peer, f"http://127.0.0.1:{port}", tuple(process.pid for process in children))
        _wait_until_ready(server, body, children, work_dir)
        yield server


def _environment(settings: Settings) -> dict[str, str]:
    bench_variables = {f"BENCH_{name.upper()}": str(value) for name, value in settings.items()}
    threads = {"OMP_NUM_THREADS": str(settings.get("torch_threads", 1)), "PYTHONPATH": str(ROOT)}
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false"}
    return {**os.environ, **bench_variables, **threads, **quiet}


@contextlib.contextmanager
def _run_process(
    command: Sequence[str], environment: Mapping[str, str], work_dir: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with (work_dir / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its remaining child processes
        process.wait()


def _wait_until_ready(
    server: PeerServer, body: bytes, children: Sequence["subprocess.Popen[bytes]"], work_dir: Path
) -> None:
    """Send an image until it gets a label.

    Raises:
        RuntimeError: a process of the peer has ended, or no label came in time.
    """
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in children):
        with contextlib.suppress(httpx.TransportError):
            if load_generator.find_label(_classify_one(server, body)):
                return
        time.sleep(0.2)
    log_tail = (work_dir / "log").read_text("utf-8", "replace").strip()[-500:]
    raise RuntimeError(f"{server.peer.name} did not start: {log_tail}")


def _classify_one(server: PeerServer, body: bytes) -> object:
    url = server.url + server.peer.path
    if server.peer.form_field:
        response = httpx.post(url, files={server.peer.form_field: ("a.jpg", body, "image/jpeg")}, timeout=60)
    else:
        response = httpx.post(url, content=body, headers={"Content-Type": "image/jpeg"}, timeout=60)
    return response.json() if response.is_success else None
