"""Questions in SQL to the server's own database, one at a time, none of which can change anything."""

import importlib
import sqlite3
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sortbelt import errors, views

READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
READING_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"}
GLANCE = 100_000  # steps of SQLite's machine between two looks at whether ctrl-C was pressed

READ_ONLY = "25006"  # what PostgreSQL calls a write in a transaction that only reads
FETCHED = ("select", "with", "values", "table")  # what PostgreSQL hands out bit by bit

Answer = tuple[Sequence[str], Iterable[Sequence[Any]]]


class Database(Protocol):
    """A database that answers and is never changed."""

    def ask(self, query: str) -> Answer:
        """The names of the columns, and the rows as they come.

        Raises:
            errors.BadInput: the question is none, or would change something.
        """

    def close(self) -> None:
        """Let go of it."""


def connect(url: str) -> Database:
    """The database of a server's settings, as SQLAlchemy would name it.

    Raises:
        errors.BadInput: there is none, or it has not our tables.
    """
    if url.startswith("sqlite:///"):
        return _Sqlite(urllib.parse.unquote(url.removeprefix("sqlite:///").partition("?")[0]))
    if url.startswith("postgresql"):
        _, _, rest = url.partition("://")
        return _Postgres(f"postgresql://{rest}")
    raise errors.BadInput("A database's URL begins with sqlite:/// or postgresql+psycopg://.", "bad_url")


class _Sqlite:
    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise errors.BadInput(f"There is no database {path}: has this machine's server run yet?", "no_database")
        try:
            self._db = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
            for statement in views.statements("TEMP VIEW"):
                self._db.execute(statement)
            for name in views.VIEWS:
                self._db.execute(f"SELECT * FROM {name} LIMIT 0")  # noqa: S608 - our own names
        except sqlite3.Error as error:
            raise _not_ours(path, error) from None
        self._db.set_authorizer(_may)
        self._db.set_progress_handler(lambda: 0, GLANCE)

    def ask(self, query: str) -> Answer:
        try:
            cursor = self._db.execute(query)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _refused(error) from None
        return [column[0] for column in cursor.description or ()], self._rows(cursor)

    def _rows(self, cursor: sqlite3.Cursor) -> Iterator[Sequence[Any]]:
        try:
            yield from cursor
        except sqlite3.Error as error:
            raise _refused(error) from None

    def close(self) -> None:
        self._db.close()


def _may(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    reads = action in READING and (second or "").lower() != "load_extension"
    asks = action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in READING_PRAGMAS
    return sqlite3.SQLITE_OK if reads or asks else sqlite3.SQLITE_DENY


class _Postgres:
    def __init__(self, url: str) -> None:
        try:
            self._psycopg = importlib.import_module("psycopg")
        except ImportError:
            raise errors.BadInput(
                "A PostgreSQL needs psycopg: pip install 'sortbelt[server]', or ask on the server's machine.",
                "not_installed",
            ) from None
        try:
            self._db = self._psycopg.connect(url, autocommit=True, cursor_factory=self._psycopg.RawCursor)
            self._db.execute("SET TimeZone = 'UTC'")
            for statement in views.statements("TEMP VIEW"):
                self._db.execute(statement)
        except self._psycopg.Error as error:
            raise _not_ours("the database", error) from None

    def ask(self, query: str) -> Answer:
        rows = self._rows(query)
        names = next(rows)
        return list(names), rows

    def _rows(self, query: str) -> Iterator[Sequence[Any]]:
        """The names of the columns, then the rows."""
        try:
            self._db.execute("BEGIN READ ONLY")
            self._db.execute("SELECT 1")  # from here on the transaction cannot be made a writing one
            fetched = query.lstrip("( \n\t").lower().startswith(FETCHED)
            cursor = self._psycopg.RawServerCursor(self._db, "asked") if fetched else self._db.cursor()
            with cursor:
                # What is prepared, or declared, is exactly one statement: no COMMIT can come along.
                cursor.execute(query, **({} if fetched else {"prepare": True}))
                yield [column.name for column in cursor.description or ()]
                if cursor.description:
                    yield from cursor
        except self._psycopg.Error as error:
            raise _refused(error) from None
        finally:
            if not self._db.closed:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        self._db.close()


def _refused(error: Exception) -> errors.BadInput:
    writes = (
        getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH or getattr(error, "sqlstate", "") == READ_ONLY
    )
    hint = ": only reading is allowed" if writes else ""
    return errors.BadInput(f"The database says: {str(error).strip().splitlines()[0]}{hint}.", "bad_query")


def _not_ours(what: str, error: Exception) -> errors.BadInput:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return errors.BadInput(
        f"{what} cannot be asked ({reason}): `sortbelt db upgrade` makes its tables, --database-url names another.",
        "no_database",
    )
