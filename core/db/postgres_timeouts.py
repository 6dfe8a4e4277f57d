"""Client-side timeouts for PostgreSQL: a server that is frozen must not freeze its clients."""

import time
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import errors

PING_TIMEOUT_SECONDS = 1.0  # for the ping before each transaction
RESPONSE_TIMEOUT_SECONDS = 35.0  # for anything else; the server's statement_timeout is shorter
BACKOFF_SECONDS = 1.0  # during which all transactions fail at once


class PostgresTimeouts:
    """The timeouts of one engine, and whether its server was unresponsive just now."""

    def __init__(self, engine: sa.Engine) -> None:
        self._unresponsive_until = 0.0
        sa.event.listen(engine, "do_connect", self._connect)
        sa.event.listen(engine, "checkout", _use_response_timeout)
        sa.event.listen(engine, "checkin", _use_ping_timeout)

    def raise_if_unresponsive(self) -> None:
        """Fail at once while the server is known to be unresponsive.

        Raises:
            psycopg.OperationalError: it did not answer a moment ago.
        """
        if time.monotonic() < self._unresponsive_until:
            raise psycopg.OperationalError("it did not answer a moment ago; retried in a second")

    def mark_unresponsive(self) -> None:
        """Remember that the server did not answer."""
        self._unresponsive_until = time.monotonic() + BACKOFF_SECONDS

    def _connect(self, _dialect: Any, _record: Any, args: Any, options: Any) -> "Connection":
        self.raise_if_unresponsive()
        try:
            connection = Connection.connect(*args, **options)
        except errors.ConnectionTimeout:
            self.mark_unresponsive()
            raise
        connection.timeouts = self
        return connection


class Connection(psycopg.Connection[Any]):
    """A connection whose waits have a timeout."""

    timeouts: PostgresTimeouts | None = None
    wait_seconds = RESPONSE_TIMEOUT_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer, as the driver does for each, but not longer than `wait_seconds`."""
        try:
            return super().wait(gen, interval, timeout or self.wait_seconds)
        except errors._WaitTimeout:  # noqa: SLF001 (the driver leaves its translation to the caller)
            self.pgconn.finish()  # a late answer would be taken for that of the next query
            if self.timeouts is not None:
                self.timeouts.mark_unresponsive()
            raise psycopg.OperationalError(f"it did not answer for {self.wait_seconds:g} s") from None


def _use_response_timeout(connection: Connection, *_: Any) -> None:
    connection.wait_seconds = RESPONSE_TIMEOUT_SECONDS


def _use_ping_timeout(connection: Connection | None, *_: Any) -> None:
    if connection is not None:
        connection.wait_seconds = PING_TIMEOUT_SECONDS
