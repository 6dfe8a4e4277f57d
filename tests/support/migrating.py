"""Migrate a database of the tests to any revision."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from alembic.config import Config

import migrations
from core.db import database


def migrate(db: database.Database, step: Callable[[Config, str], None], revision: str) -> None:
    """Run one Alembic command in a transaction, on a connection as `python -m migrations` has it."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))

    def run(connection):
        config.attributes["connection"] = connection
        step(config, revision)

    url = db.engine.url.render_as_string(hide_password=False)
    with contextlib.closing(database.Database(url, is_migration=True)) as migrated:
        migrated.write(run)
