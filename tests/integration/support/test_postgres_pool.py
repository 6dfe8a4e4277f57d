import contextlib

import pytest
import sqlalchemy as sa

from core import enums
from core.db import database, tables
from core.db.queries import api_keys
from tests.support import postgres_pool as shared


@pytest.fixture
def database_pool(postgres_url, _postgres_template):
    """A pool of this test's own, whose databases are dropped afterwards."""
    with contextlib.closing(shared.DatabasePool(postgres_url, _postgres_template)) as pool:
        yield pool
    for name in pool.available:
        shared.execute(postgres_url, f"DROP DATABASE {name}")


def write(pool, name, query):
    """Run a query in a database, and close its connections."""
    db = database.Database(pool.url(name))
    with contextlib.closing(db):
        return db.write(query)


def key_names(conn):
    """Return the names of the API keys."""
    return [row.name for row in conn.execute(sa.select(tables.ApiKey.__table__))]


def test_a_database_is_reused_empty_and_under_another_name(database_pool):
    """Open connections to it are closed, and its old URL is invalid."""
    with database_pool.acquire() as first:
        write(database_pool, first, lambda conn: api_keys.create(conn, "me", enums.Role.SUBMIT, api_keys.generate()))
        lingering = sa.create_engine(database_pool.url(first), poolclass=sa.NullPool)
        connection = lingering.connect()
        connection.execute(sa.text("SELECT 1"))
    with pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.text("SELECT 1"))
    connection.close()
    with pytest.raises(sa.exc.OperationalError, match="does not exist"):
        lingering.connect()
    (available,) = database_pool.available
    with database_pool.acquire() as second:
        assert second == available != first
        assert write(database_pool, second, key_names) == []
    assert len(database_pool.available) == 1


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE jobs ADD COLUMN more text",
        "ALTER TABLE jobs ALTER COLUMN total DROP NOT NULL",
        "DROP INDEX {index}",
        "CREATE TABLE more (id int)",
        "UPDATE alembic_version SET version_num = 'another'",
        "ANALYZE api_keys",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_a_database_with_changed_tables_is_not_reused(database_pool, change):
    """Nor one with more statistics than a new one has: its queries would be planned differently."""
    with database_pool.acquire() as name:
        write(database_pool, name, lambda conn: api_keys.create(conn, "me", enums.Role.SUBMIT, api_keys.generate()))
        index = next(iter(tables.Job.__table__.indexes)).name
        shared.execute(database_pool.url(name), change.format(index=index))
    assert database_pool.available == {}
