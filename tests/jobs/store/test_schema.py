import pytest
import sqlalchemy as sa

from jobs import database, errors, tables
from jobs.store import schema


def test_tables_that_are_up_to_date_are_told_by_their_revision(db):
    """What the program wants is what the migrations make."""
    assert db.read(schema.check) == tables.REVISION


@pytest.mark.parametrize("change", ["UPDATE alembic_version SET version_num = '0000'", "DELETE FROM alembic_version"])
def test_tables_that_are_older_are_refused_with_the_command_that_mends_it(db, change):
    """A program does not work on tables that it does not know."""
    db.write(lambda c: c.execute(sa.text(change)))
    with pytest.raises(errors.DatabaseUnavailable, match="sortbelt db upgrade"):
        db.read(schema.check)


def test_newer_tables_are_worked_on(db):
    """While one server is replaced by the next, the old one goes on."""
    db.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '0999'")))
    assert db.read(schema.check) == "0999"


def test_tables_of_another_age_are_refused(db):
    """A migration that this program cannot live with says so by its first digit."""
    db.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '1001'")))
    with pytest.raises(errors.DatabaseUnavailable, match="later program"):
        db.read(schema.check)


def test_a_database_without_tables_is_refused(tmp_path, postgres_url):
    """Empty, or somebody else's."""
    for url in (f"sqlite:///{tmp_path}/empty.db", postgres_url):
        db = database.Database(url)
        with pytest.raises(errors.DatabaseUnavailable, match="sortbelt db upgrade"):
            db.read(schema.check)
        db.close()
