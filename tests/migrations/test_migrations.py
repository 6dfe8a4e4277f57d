from alembic import autogenerate
from alembic.migration import MigrationContext

from jobs import tables
from migrations.__main__ import upgrade


def test_migrations_make_exactly_the_tables(db):
    """A database made by the migrations has no difference to the tables of the code."""
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert autogenerate.compare_metadata(context, tables.Base.metadata) == []


def test_migrating_again_changes_nothing(db):
    """Whoever starts a second server migrates once more, and nothing happens."""
    db.write(upgrade)
    db.write(upgrade)
