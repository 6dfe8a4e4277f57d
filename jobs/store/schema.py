"""The schema's revision: a program works neither on tables older than it knows them, nor on those of another age."""

import sqlalchemy as sa

from jobs import errors, tables

VERSIONS = sa.table("alembic_version", sa.column("version_num", sa.String))


def check(c: sa.Connection) -> str:
    """The revision of the tables.

    Raises:
        errors.DatabaseUnavailable: there are none, they are older than this program, or made for much later ones.
    """
    there = sa.inspect(c).has_table(VERSIONS.name)
    revision = c.execute(sa.select(VERSIONS.c.version_num)).scalar() if there else None
    if revision is None or revision < tables.REVISION:
        state = f"The tables are of revision {revision}, and this program wants {tables.REVISION}"
        raise errors.DatabaseUnavailable(f"{state}: run `sortbelt db upgrade`.")
    if revision[0] != tables.REVISION[0]:
        state = f"The tables are of revision {revision}, made for a later program than this ({tables.REVISION})"
        raise errors.DatabaseUnavailable(f"{state}: start that one.")
    return str(revision)
