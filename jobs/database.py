"""The door to the database: transactions, retried where that is safe, and named errors where not."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from jobs import errors, tracing

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 4
SQLITE_PATIENCE_SECONDS = 5.0  # how long SQLite waits for another writer
CONNECT_SECONDS = 2  # how long a connection to PostgreSQL may take to come about
LOCK_SECONDS = 5  # how long a statement of PostgreSQL may wait for a lock
ABANDONED_SECONDS = 10  # then PostgreSQL ends a transaction whose process is frozen: its locks hold up all others
# A peer that vanished without a word (a failover, a cut cable) is noticed by the kernel.
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
# Undefined table and column: the code is newer than the tables.
NOT_MIGRATED = {"42P01", "42703"}
# Serialization failure and deadlock: PostgreSQL has rolled back and asks for another try.
TRY_AGAIN = {"40001", "40P01"}


class Database:
    """One database. Connections open when they are first needed."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writer = threading.Lock()

    @property
    def name(self) -> str:
        """The dialect: `sqlite` or `postgresql`."""
        return self.engine.dialect.name

    def write(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query of `jobs.store` in a transaction that may write.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or not in time.
        """
        return self._run("BEGIN IMMEDIATE", query, *args, **kwargs)

    def read(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query of `jobs.store` that only reads.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or not in time.
        """
        return self._run("BEGIN", query, *args, **kwargs)

    def _run(
        self, begin: str, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with (
                    self._turn(begin),
                    tracing.span("transaction", query),
                    self.engine.connect().execution_options(sqlite_begin=begin) as connection,
                    connection.begin(),
                ):
                    return query(connection, *args, **kwargs)
            except (exc.IntegrityError, exc.DataError, exc.NotSupportedError):
                raise
            except (exc.DatabaseError, exc.InterfaceError, exc.TimeoutError) as error:
                if _is_a_defect(error):
                    raise
                if attempt == ATTEMPTS or _state(error) not in TRY_AGAIN:
                    raise errors.DatabaseUnavailable(f"The database does not answer: {_first_line(error)}.") from error
                time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 (jitter, not a secret)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _turn(self, begin: str) -> Iterator[None]:
        """Let the writers of this process wait for each other in a queue: SQLite itself sleeps and tries again."""
        queues = begin == "BEGIN IMMEDIATE" and self.name == "sqlite"
        has_it = queues and self._writer.acquire(timeout=SQLITE_PATIENCE_SECONDS)
        try:
            yield
        finally:
            if has_it:
                self._writer.release()

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def _engine(url: str) -> sa.Engine:
    if url.startswith("sqlite"):
        engine = sa.create_engine(url, connect_args={"timeout": SQLITE_PATIENCE_SECONDS})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    limits = {
        "lock_timeout": f"{LOCK_SECONDS}s",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": f"{ABANDONED_SECONDS}s",
    }
    options = " ".join(["-c timezone=utc", *(f"-c {name}={value}" for name, value in limits.items())])
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=CONNECT_SECONDS,
        connect_args={"connect_timeout": CONNECT_SECONDS, "options": options, **KEEPALIVE},
    )
    from jobs import patience  # noqa: PLC0415 (only those who use PostgreSQL pay for its driver)

    patience.Patience(engine)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by itself, and lazily: two of those cannot both be upgraded to write.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_size_limit = 67108864")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE"))


def _state(error: exc.SQLAlchemyError) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _is_a_defect(error: exc.SQLAlchemyError) -> bool:
    return isinstance(error, exc.ProgrammingError) and _state(error) not in NOT_MIGRATED


def _first_line(error: exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0].rstrip(".")
