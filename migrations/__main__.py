"""`python -m migrations`: bring the database up to date, and make the admin key of the settings valid."""

import sys
from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa

from jobs import database, errors, settings, tables
from jobs.store import keys

LOCK = 0x536F7274  # an advisory lock of ours: two migrations at once take turns


def upgrade(connection: sa.Connection) -> None:
    """Migrate to the newest revision, in the transaction of this connection."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def main() -> int:
    """Migrate; 0, or 2 for a bad setting, 3 if the database cannot be reached."""
    wanted = settings.read_or_exit()
    try:
        db = database.Database(wanted.database_url)
        db.write(upgrade)
        if wanted.admin_key is not None:
            db.write(keys.ensure, "admin", tables.Role.ADMIN, wanted.admin_key.get_secret_value())
    except errors.BadParameter as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only voice)
        return 2
    except errors.DatabaseUnavailable as error:
        print(f"sortbelt: {error.detail} Check SORTBELT_DATABASE_URL.", file=sys.stderr)  # noqa: T201 (its only voice)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
