"""Pool of PostgreSQL databases: truncating one is four times as fast as creating one, so they are reused."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from core.db import tables

TABLES = ", ".join(tables.Base.metadata.tables)
CATALOGS = ["class", "attribute", "attrdef", "constraint", "index", "proc", "rewrite", "statistic", "trigger", "type"]
# Every change of a table, or of its columns' statistics, writes rows to these.
CATALOG_QUERY = "SELECT count(*), max(xmin::text::bigint)::text FROM pg_"
FINGERPRINT_QUERY = " UNION ALL ".join(CATALOG_QUERY + name for name in CATALOGS)
FINGERPRINT_QUERY += " UNION ALL SELECT count(*), max(version_num) FROM alembic_version"
FINGERPRINT_QUERY += " UNION ALL SELECT count(*), '' FROM pg_db_role_setting"
TERMINATE_QUERY = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
TERMINATE_SECONDS, POLL_SECONDS = 5, 0.002

Rows = list[tuple[object, ...]]


class DatabasePool:
    """Databases of one server, all copies of a migrated template.

    Attributes:
        available: the empty databases by name, each with the fingerprint of its catalogs.
    """

    def __init__(self, url: str, template: str) -> None:
        self._url = url
        self._template = template
        self._server = _connect(url)
        self.available: dict[str, Rows] = {}

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return self._url.replace("/postgres?", f"/{name}?")

    def close(self) -> None:
        """Close the connection to the server."""
        self._server.close()

    @contextmanager
    def acquire(self) -> Iterator[str]:
        """Yield the name of an empty, migrated database; recycle it after the block."""
        name, fingerprint = self.available.popitem() if self.available else self._create()
        try:
            yield name
        finally:
            self._recycle(name, fingerprint)

    def _create(self) -> tuple[str, Rows]:
        name = _random_name()
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name, execute(self.url(name), FINGERPRINT_QUERY)

    def _recycle(self, name: str, fingerprint: Rows) -> None:
        """Empty a database for the next test, under a new name, so that leftover clients cannot reconnect."""
        try:
            self._end_clients(name)
            new = _random_name()
            self._execute(f"ALTER DATABASE {name} RENAME TO {new}")
            name = new
            if (new_fingerprint := _truncate_if_unchanged(self.url(name), fingerprint)) is not None:
                self.available[name] = new_fingerprint
        except psycopg.Error:
            pass  # a client is still connected
        if name not in self.available:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _end_clients(self, name: str) -> None:
        """Terminate the sessions in a database; PostgreSQL's own wait for their ends is a tenth of a second or none."""
        deadline = time.monotonic() + TERMINATE_SECONDS
        while self._execute(f"{TERMINATE_QUERY} WHERE datname = '{name}'") and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _execute(self, statement: str) -> Rows:
        return _rows(self._server.execute(statement))


def execute(url: str, *statements: str) -> Rows:
    """Run statements, each in its own transaction; return the rows of the last."""
    with _connect(url) as connection:
        for statement in statements:
            result = connection.execute(statement)
        return _rows(result)


def _truncate_if_unchanged(url: str, fingerprint: Rows) -> Rows | None:
    """Truncate the tables if the schema is unchanged; return the new fingerprint, else None."""
    with _connect(url) as connection:
        if _rows(connection.execute(FINGERPRINT_QUERY)) != fingerprint:
            return None
        connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
        return _rows(connection.execute(FINGERPRINT_QUERY))


def _connect(url: str) -> psycopg.Connection[Any]:
    """Connect without an engine of SQLAlchemy: for a few statements, that takes longer to create than to use."""
    return psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:"), autocommit=True)


def _rows(result: psycopg.Cursor[Any]) -> Rows:
    return result.fetchall() if result.description else []


def _random_name() -> str:
    return f"test_{os.urandom(6).hex()}"
