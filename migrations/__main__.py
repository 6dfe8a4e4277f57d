"""`python -m migrations`: upgrade the database, and create the admin key of the settings."""

import sys
from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa

from core import enums, errors, settings
from core.db import database, revision, tables
from core.db.queries import api_keys

ADVISORY_LOCK_ID = 0x536F7274  # concurrent migrations run one after the other
OLDEST_REVISION = "0011"  # of 0.1


def upgrade(connection: sa.Connection) -> None:
    """Migrate to the newest revision, in the transaction of this connection; leave later tables as they are.

    Raises:
        errors.DatabaseUnavailable: the tables are of a later generation, or older than those of 0.1.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK_ID)))
    current = revision.read(connection)
    if current is not None and current > tables.REVISION:
        revision.check(connection)
        note = f"The tables have revision {current}, later than this program's {tables.REVISION}, and work with it."
        print(f"sortbelt: {note}", file=sys.stderr)  # noqa: T201 (for the operator of a rollback)
        return
    if current is not None and current < OLDEST_REVISION:
        problem = f"The tables have revision {current}, older than {OLDEST_REVISION}, that of 0.1"
        raise errors.DatabaseUnavailable(f"{problem}: upgrade them with release 0.2.0 first.")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def main() -> int:
    """Migrate; exit with 0, 2 for a bad setting, 3 if the database cannot be reached."""
    config = settings.read_or_exit()
    try:
        db = database.Database(config.database_url, is_migration=True)
        db.write(upgrade)
        if config.admin_key is not None:
            db.write(api_keys.ensure, "admin", enums.Role.ADMIN, config.admin_key.get_secret_value())
    except errors.BadParameter as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only output)
        return 2
    except errors.DatabaseUnavailable as error:
        advice = " Check SORTBELT_DATABASE_URL." if error.__cause__ else ""  # else the tables do not fit, as it says
        print(f"sortbelt: {error.detail}{advice}", file=sys.stderr)  # noqa: T201 (its only output)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
