"""Fixtures of the chaos tests: a PostgreSQL server of their own, and stacks on it or on SQLite."""

import os
import shutil

import pytest

from core.db import database
from migrations.__main__ import upgrade

pytest.register_assert_rewrite("tests.faults.stack")

from tests.faults import postgres_server as postgresql  # noqa: E402 (after the line above, which rewrites its asserts)
from tests.faults import stack as stacks  # noqa: E402 (as above)


def pytest_collection_modifyitems(items):
    """Allow fifteen minutes per test: each starts many processes, which takes long on a busy machine."""
    for item in items:
        if "tests/faults" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def shared_postgres():
    """Start a PostgreSQL server on TCP, with a migrated template database."""
    server = postgresql.Postgres()
    db = database.Database(server.database("template_sortbelt"))
    db.write(upgrade)
    db.close()
    yield server
    server.close()


@pytest.fixture
def fresh_postgres_url(shared_postgres):
    """Create a fresh, migrated PostgreSQL database; return its URL."""
    name = f"test_{os.urandom(6).hex()}"
    yield shared_postgres.database(name, "template_sortbelt")
    shared_postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def make_stack(tmp_path):
    """Make stacks on a database, with settings; close them at the end."""
    started = []

    def make(url, **settings):
        started.append(stacks.Stack(tmp_path, url, settings))
        return started[-1]

    yield make
    for started_stack in started:
        started_stack.close()


@pytest.fixture
def stack(make_stack, fresh_postgres_url):
    """Make a stack on PostgreSQL."""
    return make_stack(fresh_postgres_url)


@pytest.fixture(params=["postgresql", "sqlite"])
def stack_per_database(request, make_stack, tmp_path):
    """Make a stack on each kind of database."""
    if request.param == "postgresql":
        return make_stack(request.getfixturevalue("fresh_postgres_url"))
    shutil.copy(request.getfixturevalue("_sqlite_template"), tmp_path / "sortbelt.db")
    return make_stack(f"sqlite:///{tmp_path}/sortbelt.db")
