"""Read-only database: SQLite or PostgreSQL, opened so that no statement changes anything."""

import contextlib
import importlib
import sqlite3
import sys
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from sortbelt import errors

READ_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
CURSOR_KEYWORDS = ("select", "with", "values", "table")  # statements that PostgreSQL streams


@contextlib.contextmanager
def connect(url: str) -> Iterator[Callable[[str], Generator[Sequence[Any]]]]:
    """Open a database; yield a function that runs one statement and returns column names, then rows, as they come.

    Raises:
        errors.BadInput: the database cannot be opened, a statement fails, or it would change something.
    """
    open_database = _open_postgresql if url.startswith("postgresql") else _open_sqlite
    with _bad_input("check --database-url, or run `sortbelt db upgrade`"):
        connection, open_cursor = open_database(url.partition("://")[2])

    def execute(query: str) -> Generator[Sequence[Any]]:
        with _bad_input("fix the query; only reading is allowed"), contextlib.closing(open_cursor(query)) as cursor:
            cursor.execute(query)
            yield [column[0] for column in cursor.description or ()]
            yield from cursor if cursor.description else ()

    with contextlib.closing(connection):
        yield execute


def _open_sqlite(address: str) -> tuple[Any, Callable[[str], Any]]:
    path = Path(urllib.parse.unquote(address.removeprefix("/").partition("?")[0])).absolute()
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    connection.execute("SELECT 1 FROM v_jobs LIMIT 0")
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: 0, 100_000)  # lets ctrl-C interrupt a long query
    return connection, lambda _: connection.cursor()


def _authorize(action: int, _: str | None, function: str | None, *__: str | None) -> int:
    is_read = action in READ_ACTIONS and (function or "").lower() != "load_extension"
    return sqlite3.SQLITE_OK if is_read else sqlite3.SQLITE_DENY


def _open_postgresql(address: str) -> tuple[Any, Callable[[str], Any]]:
    psycopg = importlib.import_module("psycopg")
    connection = psycopg.connect(f"postgresql://{address}", autocommit=True, cursor_factory=psycopg.RawCursor)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SELECT 1 FROM v_jobs LIMIT 0")
    connection.autocommit, connection.read_only = False, True

    # A prepared or declared text is exactly one statement: it cannot contain a COMMIT.
    connection.prepare_threshold = 0

    def open_cursor(query: str) -> Any:
        connection.rollback()
        connection.execute("SELECT 1")  # after its first query, a transaction cannot be made a writing one
        streams = query.lstrip("( \n\t").lower().startswith(CURSOR_KEYWORDS)
        return psycopg.RawServerCursor(connection, "query") if streams else connection.cursor()

    return connection, open_cursor


@contextlib.contextmanager
def _bad_input(advice: str) -> Iterator[None]:
    """Turn errors of either database library, and a missing one, into BadInput."""
    try:
        yield
    except Exception as error:
        psycopg = sys.modules.get("psycopg")
        if not isinstance(error, (ImportError, sqlite3.Error, sqlite3.Warning, *([psycopg.Error] if psycopg else []))):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise errors.BadInput(f"The database cannot do this ({reason}): {advice}.", "bad_query") from None
