import contextlib

import pytest
import sqlalchemy as sa

from jobs import database, tables
from jobs.store import keys
from tests import databases as shared


@pytest.fixture
def databases(postgres_url, _postgres_template):
    """Databases of this test's own, which are gone afterwards."""
    with contextlib.closing(shared.Databases(postgres_url, _postgres_template)) as made:
        yield made
    for name in made.spare:
        shared.execute(postgres_url, f"DROP DATABASE {name}")


def use(databases, name, query):
    """Do something in a database, and let go of it."""
    db = database.Database(databases.url(name))
    with contextlib.closing(db):
        return db.write(query)


def owners(c):
    """The names of those who have keys."""
    return [row.name for row in c.execute(sa.select(tables.ApiKey.__table__))]


def test_a_database_is_given_again_empty_and_under_another_name(databases):
    """Also where somebody is connected still: they are thrown out, and what they knew leads nowhere."""
    with databases.one() as first:
        use(databases, first, lambda c: keys.create(c, "me", tables.Role.SUBMIT, keys.make()))
        lingering = sa.create_engine(databases.url(first), poolclass=sa.NullPool)
        connection = lingering.connect()
        connection.execute(sa.text("SELECT 1"))
    with pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.text("SELECT 1"))
    connection.close()
    with pytest.raises(sa.exc.OperationalError, match="does not exist"):
        lingering.connect()
    (spare,) = databases.spare
    with databases.one() as second:
        assert second == spare != first
        assert use(databases, second, owners) == []
    assert len(databases.spare) == 1


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
def test_one_whose_tables_were_changed_is_not_given_again(databases, change):
    """Nor one of which more is known than of a new one: questions would be planned otherwise."""
    with databases.one() as name:
        use(databases, name, lambda c: keys.create(c, "me", tables.Role.SUBMIT, keys.make()))
        index = next(iter(tables.Job.__table__.indexes)).name
        shared.execute(databases.url(name), change.format(index=index))
    assert databases.spare == {}
