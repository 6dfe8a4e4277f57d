"""Alembic's environment: it uses the connection it is given, or opens the database of the settings."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, create_engine

from core import settings
from core.db import tables


def _render_item(item_type: str, item: object, autogenerate_context: Any) -> str | Literal[False]:
    """Render our types as plain ones in a migration, because ours may change after it was written."""
    if item_type == "type" and isinstance(item, tables.Timestamp):
        return "sa.DateTime(timezone=True)"
    if item_type == "type" and item is tables.Json:
        autogenerate_context.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


def _migrate(connection: Connection) -> None:
    # Batch mode, because SQLite can alter a table only by making it anew.
    context.configure(
        connection=connection,
        target_metadata=tables.Base.metadata,
        render_as_batch=True,
        render_item=_render_item,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


existing_connection = context.config.attributes.get("connection")
if existing_connection is not None:
    _migrate(existing_connection)
else:
    with create_engine(settings.read().database_url).connect() as new_connection:
        _migrate(new_connection)
