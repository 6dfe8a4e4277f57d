from pathlib import Path

import pytest
from alembic import autogenerate, command
from alembic.config import Config
from alembic.migration import MigrationContext

import migrations
from jobs import errors, tables
from jobs.store import schema
from migrations.__main__ import upgrade
from tests.jobs import making


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


def test_migrating_keeps_what_is_there(db, owner):
    """Back to the first tables and forward again, and every job still has its images and their results."""
    making.job(db, owner, "a", "b")
    making.finish(db, making.claim(db))

    def migrate(c, step, revision):
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = c
        step(config, revision)

    db.write(migrate, command.downgrade, "0001")
    db.write(migrate, command.upgrade, "head")
    assert making.images(db) == {"a": ("done", 1), "b": ("done", 1)}
    assert making.results(db) == ["a", "b"]
