"""The revision of the schema: a program refuses to work on older tables, and on those of a later first digit."""

import sqlalchemy as sa

from core import errors
from core.db import tables

ALEMBIC_VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))


def read(conn: sa.Connection) -> str | None:
    """Return the revision of the tables; None if there are none."""
    has_table = sa.inspect(conn).has_table(ALEMBIC_VERSION.name)
    return _read_existing(conn) if has_table else None


def check(conn: sa.Connection) -> str:
    """Return the revision of the tables.

    Raises:
        errors.DatabaseUnavailable: there are no tables, they are older than this program, or made for a much later one.
    """
    return _require_compatible(read(conn))


def check_existing(conn: sa.Connection) -> str:
    """Return the revision of tables that were there before; as `check`, with one small statement."""
    return _require_compatible(_read_existing(conn))


def _read_existing(conn: sa.Connection) -> str | None:
    return conn.execute(sa.select(ALEMBIC_VERSION.c.version_num)).scalar()


def _require_compatible(revision: str | None) -> str:
    if revision is None or revision < tables.REVISION:
        problem = f"The tables have revision {revision}, but this program needs {tables.REVISION}"
        raise errors.DatabaseUnavailable(f"{problem}: run `sortbelt db upgrade`.")
    if revision[0] != tables.REVISION[0]:
        problem = f"The tables have revision {revision}, made for a later program than this ({tables.REVISION})"
        raise errors.DatabaseUnavailable(f"{problem}: start that one, or restore a backup from before its migration.")
    return revision


def check_writable(conn: sa.Connection) -> str:
    """Return the revision of the tables, after a write that changes nothing: a full disk or a replica rejects it.

    Raises:
        errors.DatabaseUnavailable: the tables do not fit this program; see `check`.
    """
    revision = check(conn)
    conn.execute(sa.update(ALEMBIC_VERSION).values(version_num=ALEMBIC_VERSION.c.version_num))
    return revision
