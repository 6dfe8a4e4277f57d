import pytest
from alembic import autogenerate
from alembic.migration import MigrationContext

from jobs import errors, tables
from jobs.store import schema
from migrations.__main__ import upgrade


def test_migrations_make_exactly_the_tables(db):
    """A database made by the migrations has no difference to the tables of the code."""
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert autogenerate.compare_metadata(context, tables.Base.metadata) == []


def test_the_code_knows_the_newest_revision(db):
    """A program tells old tables by the revision that it was written for."""
    assert db.read(schema.check) == tables.REVISION


def test_tables_that_are_older_are_refused(db):
    """A worker of a newer version does not touch tables that were not migrated yet."""
    db.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(errors.DatabaseUnavailable, match="sortbelt db upgrade"):
        db.read(schema.check)


def test_migrating_again_changes_nothing(db):
    """Whoever starts a second server migrates once more, and nothing happens."""
    db.write(upgrade)
    db.write(upgrade)
