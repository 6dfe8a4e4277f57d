"""What the faults need: a PostgreSQL that may be hurt, and stacks on it or on SQLite."""

import os
import shutil

import pytest

from jobs import database
from migrations.__main__ import upgrade

pytest.register_assert_rewrite("tests.faults.stack")

from tests.faults import postgres as postgresql  # noqa: E402 (after the line above, or its asserts say nothing)
from tests.faults import stack as stacks  # noqa: E402 (as above)


def pytest_collection_modifyitems(items):
    """These start many processes: on a busy machine they take their time."""
    for item in items:
        if "tests/faults" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server by TCP, with a migrated database to be copied."""
    server = postgresql.Postgres()
    db = database.Database(server.database("template_sortbelt"))
    db.write(upgrade)
    db.close()
    yield server
    server.close()


@pytest.fixture
def fresh(postgres):
    """A fresh, migrated PostgreSQL database; its URL."""
    name = f"test_{os.urandom(6).hex()}"
    yield postgres.database(name, "template_sortbelt")
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def make_stack(tmp_path):
    """Makes stacks on a database, with settings; ends them."""
    made = []

    def make(url, **settings):
        made.append(stacks.Stack(tmp_path, url, settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def stack(make_stack, fresh):
    """A stack on PostgreSQL."""
    return make_stack(fresh)


@pytest.fixture(params=["postgresql", "sqlite"])
def either(request, make_stack, tmp_path):
    """A stack on each kind of database."""
    if request.param == "postgresql":
        return make_stack(request.getfixturevalue("fresh"))
    shutil.copy(request.getfixturevalue("_sqlite_template"), tmp_path / "sortbelt.db")
    return make_stack(f"sqlite:///{tmp_path}/sortbelt.db")
