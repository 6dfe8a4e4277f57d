"""PostgreSQL databases for the tests: a new one costs four times what emptying one costs, so they are given again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from jobs import tables

TABLES = ", ".join(tables.Base.metadata.tables)
CATALOGS = ["class", "attribute", "attrdef", "constraint", "index", "proc", "rewrite", "statistic", "trigger", "type"]
# Whatever changes a table, or what is known of its columns, writes rows into these.
WRITTEN = "SELECT count(*), max(xmin::text::bigint)::text FROM pg_"
LOOK = " UNION ALL ".join(WRITTEN + name for name in CATALOGS)
LOOK += " UNION ALL SELECT count(*), max(version_num) FROM alembic_version"
LOOK += " UNION ALL SELECT count(*), '' FROM pg_db_role_setting"
ENDED = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"

Rows = list[tuple[object, ...]]


class Databases:
    """The databases of one server, all copies of a migrated one.

    Attributes:
        spare: those that are empty, by name, with what their catalogs looked like.
    """

    def __init__(self, url: str, template: str) -> None:
        self._url = url
        self._template = template
        self._server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self.spare: dict[str, Rows] = {}

    def url(self, name: str) -> str:
        """Where a database is."""
        return self._url.replace("/postgres?", f"/{name}?")

    def close(self) -> None:
        """Let go of the server."""
        self._server.dispose()

    @contextmanager
    def one(self) -> Iterator[str]:
        """The name of an empty, migrated database, for as long as it is wanted."""
        name, before = self.spare.popitem() if self.spare else self._make()
        try:
            yield name
        finally:
            self._give_back(name, before)

    def _make(self) -> tuple[str, Rows]:
        name = _name()
        self._say(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name, execute(self.url(name), LOOK)

    def _give_back(self, name: str, before: Rows) -> None:
        """Empty it for the next test, under a new name: who still knows the old one reaches nothing."""
        try:
            self._say(f"{ENDED} WHERE datname = '{name}'")
            new = _name()
            self._say(f"ALTER DATABASE {name} RENAME TO {new}")
            name = new
            if (look := _emptied(self.url(name), before)) is not None:
                self.spare[name] = look
        except sa.exc.DBAPIError:
            pass  # somebody cannot let go of it
        if name not in self.spare:
            self._say(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _say(self, statement: str) -> None:
        with self._server.connect() as connection:
            connection.exec_driver_sql(statement)


def execute(url: str, *statements: str) -> Rows:
    """Run statements, each a transaction; the rows of the last."""
    with _connected(url) as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return _rows(result)


def _emptied(url: str, before: Rows) -> Rows | None:
    """Empty the tables if they are as they were before; what the catalogs look like then."""
    with _connected(url) as connection:
        if _rows(connection.exec_driver_sql(LOOK)) != before:
            return None
        connection.exec_driver_sql(f"TRUNCATE {TABLES} RESTART IDENTITY")
        return _rows(connection.exec_driver_sql(LOOK))


def _connected(url: str) -> sa.Connection:
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()


def _rows(result: sa.CursorResult[Any]) -> Rows:
    return [tuple(row) for row in result] if result.returns_rows else []


def _name() -> str:
    return f"test_{os.urandom(6).hex()}"
