import pytest
import sqlalchemy as sa

from core import errors
from core.db import database, revision, tables


def test_the_revision_of_current_tables_is_accepted(db):
    """The migrations create the schema that the program needs."""
    assert db.read(revision.check) == tables.REVISION


@pytest.mark.parametrize("change", ["UPDATE alembic_version SET version_num = '0000'", "DELETE FROM alembic_version"])
def test_tables_that_are_older_are_refused_with_the_command_that_mends_it(db, change):
    """A program does not work on tables that it does not know."""
    db.write(lambda c: c.execute(sa.text(change)))
    with pytest.raises(errors.DatabaseUnavailable, match="sortbelt db upgrade"):
        db.read(revision.check)


def test_newer_tables_are_worked_on(db):
    """While one server is replaced by the next, the old one goes on."""
    db.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '1999'")))
    assert db.read(revision.check) == "1999"


def test_tables_of_another_age_are_refused(db):
    """A migration that this program cannot live with says so by its first digit."""
    db.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '2001'")))
    with pytest.raises(errors.DatabaseUnavailable, match="later program"):
        db.read(revision.check)


def test_a_database_without_tables_is_refused(tmp_path, postgres_url):
    """Empty, or of another program."""
    for url in (f"sqlite:///{tmp_path}/empty.db", postgres_url):
        db = database.Database(url)
        with pytest.raises(errors.DatabaseUnavailable, match="sortbelt db upgrade"):
            db.read(revision.check)
        db.close()
