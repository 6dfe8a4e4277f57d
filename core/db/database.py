"""The database: engine, transactions with safe retries, and named errors."""

import contextlib
import functools
import random
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from core import errors
from core.db import sqlite_files
from core.tracing import tracer

P = ParamSpec("P")
T = TypeVar("T")

MAX_TRANSACTION_ATTEMPTS = 4
POSTGRES_POOL_SIZE = 20  # connections of one process to PostgreSQL; half of them are kept open
SQLITE_BUSY_TIMEOUT_SECONDS = 5.0  # how long SQLite waits for another writer
CONNECT_TIMEOUT_SECONDS = 2  # how long connecting to PostgreSQL may take
LOCK_TIMEOUT_SECONDS = 5  # how long a statement of PostgreSQL may wait for a lock
IDLE_IN_TRANSACTION_TIMEOUT_SECONDS = 10  # a frozen process would block others by its locks
# The kernel detects a peer that vanished (a failover, a cut cable).
KEEPALIVE_OPTIONS = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
# Undefined table and column: the code is newer than the tables.
MISSING_SCHEMA_SQLSTATES = {"42P01", "42703"}
# PostgreSQL has rolled back: serialization failure, deadlock, a transaction that was idle since its process was frozen.
RETRYABLE_SQLSTATES = {"40001", "40P01", "25P03"}
LIMIT_EXCEEDED = "54"  # the class of SQLSTATEs of a row that is too large for an index, and the like
# Damaged pages and damaged indexes, of PostgreSQL and of SQLite.
DAMAGE_CODES = {"XX001", "XX002", sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """One database. Connections are opened when they are first needed.

    Args:
        url: its SQLAlchemy URL.
        is_migration: whether its tables are migrated: PostgreSQL then ends no long statement, and SQLite, which builds
            a table anew to change it, does not delete what refers to the old one.

    Attributes:
        damage: why the database is known to be damaged; None if it is not.
    """

    def __init__(self, url: str, *, is_migration: bool = False) -> None:
        self.engine = _create_engine(url, is_migration=is_migration)
        self.damage: str | None = None
        self._writer_lock = threading.Lock()
        self._files = _watch_files(self.engine)

    @property
    def dialect_name(self) -> str:
        """The dialect: `sqlite` or `postgresql`."""
        return self.engine.dialect.name

    def write(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query function in a transaction that may write.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or not in time.
        """
        return self._run("BEGIN IMMEDIATE", query, *args, **kwargs)

    def read(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query function that only reads.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or not in time.
        """
        return self._run("BEGIN", query, *args, **kwargs)

    def _run(
        self, begin_statement: str, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        for attempt in range(1, MAX_TRANSACTION_ATTEMPTS + 1):
            try:
                with (
                    self._guard(begin_statement),
                    tracer.child_span("transaction", query),
                    self.engine.connect().execution_options(sqlite_begin=begin_statement) as connection,
                    connection.begin(),
                ):
                    return query(connection, *args, **kwargs)
            except (exc.IntegrityError, exc.DataError, exc.NotSupportedError):
                raise
            except (exc.DatabaseError, exc.InterfaceError, exc.TimeoutError) as error:
                if _is_programming_error(error) or (_sqlstate(error) or "").startswith(LIMIT_EXCEEDED):
                    raise
                if _damage_code(error) in DAMAGE_CODES:
                    self.damage = _first_line(error)
                if attempt == MAX_TRANSACTION_ATTEMPTS or _sqlstate(error) not in RETRYABLE_SQLSTATES:
                    raise errors.DatabaseUnavailable(f"The database does not answer: {_first_line(error)}.") from error
                time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 (jitter, not a secret)
        raise AssertionError("unreachable")

    def check_pages(self) -> None:
        """Check that the pages of a database in SQLite are intact, as far as that is quick.

        Raises:
            errors.DatabaseUnavailable: they are not.
        """
        if self.damage is not None:
            raise errors.DatabaseUnavailable(f"The database is damaged ({self.damage}): restore it from a backup.")
        if self._files is not None:
            self._files.check_pages()

    @contextlib.contextmanager
    def _guard(self, begin_statement: str) -> Iterator[None]:
        """On SQLite, queue the writers of this process, since it sleeps and polls for its lock; and watch its files.

        They are checked before a transaction, because a new connection would create them anew; and after a write,
        before it counts.
        """
        if self._files is None:
            yield
            return
        self._files.check()
        is_write = begin_statement == "BEGIN IMMEDIATE"
        acquired = is_write and self._writer_lock.acquire(timeout=SQLITE_BUSY_TIMEOUT_SECONDS)
        try:
            yield
            if is_write:
                self._files.check()
        finally:
            if acquired:
                self._writer_lock.release()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _create_engine(url: str, *, is_migration: bool) -> sa.Engine:
    if url.startswith("sqlite"):
        engine = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})
        sa.event.listen(engine, "connect", functools.partial(_prepare_sqlite, foreign_keys=not is_migration))
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    timeouts = {
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        "statement_timeout": "0" if is_migration else "30s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_SECONDS}s",
    }
    options = " ".join(["-c timezone=utc", *(f"-c {name}={value}" for name, value in timeouts.items())])
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=POSTGRES_POOL_SIZE // 2,
        max_overflow=POSTGRES_POOL_SIZE // 2,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": options, **KEEPALIVE_OPTIONS},
    )
    if not is_migration:
        from core.db import postgres_timeouts  # noqa: PLC0415 (imported only if PostgreSQL is used)

        postgres_timeouts.PostgresTimeouts(engine)
    return engine


def _watch_files(engine: sa.Engine) -> sqlite_files.SqliteFiles | None:
    """Watch the files of a database in SQLite; return None for any other."""
    if engine.dialect.name != "sqlite":
        return None
    files = sqlite_files.SqliteFiles(engine.url.database or ":memory:")
    sa.event.listen(engine, "connect", lambda *_: files.add_connection())
    sa.event.listen(engine, "close", lambda *_: files.remove_connection())
    return files


def _prepare_sqlite(connection: Any, _record: Any, *, foreign_keys: bool) -> None:
    # The driver begins transactions itself, and lazily: two of those cannot both be upgraded to write.
    connection.isolation_level = None
    for form in ("NFC", "NFD"):
        connection.create_function(form.lower(), 1, functools.partial(unicodedata.normalize, form), deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # each commit is on disk when it returns, also for a power failure
    cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
    cursor.execute("PRAGMA journal_size_limit = 67108864")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE"))


def _sqlstate(error: exc.SQLAlchemyError) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _damage_code(error: exc.SQLAlchemyError) -> object:
    """Return the SQLSTATE of PostgreSQL, or the primary error code of SQLite."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return _sqlstate(error) if code is None else code & 0xFF


def _is_programming_error(error: exc.SQLAlchemyError) -> bool:
    return isinstance(error, exc.ProgrammingError) and _sqlstate(error) not in MISSING_SCHEMA_SQLSTATES


def _first_line(error: exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0].rstrip(".")
