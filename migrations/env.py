"""What Alembic runs to migrate: it is handed a connection, or opens the database of the settings."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, create_engine

from jobs import settings, tables


def _spell(kind: str, item: object, autogenerate: Any) -> str | Literal[False]:
    """How a migration spells our types: as plain ones, because ours may change after it was written."""
    if kind == "type" and isinstance(item, tables.Timestamp):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and item is tables.Json:
        autogenerate.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


def _migrate(connection: Connection) -> None:
    # Batch mode, because SQLite can alter a table only by making it anew.
    context.configure(
        connection=connection,
        target_metadata=tables.Base.metadata,
        render_as_batch=True,
        render_item=_spell,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    with create_engine(settings.read().database_url).connect() as opened:
        _migrate(opened)
