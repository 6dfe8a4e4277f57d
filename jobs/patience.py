"""How long PostgreSQL is waited for when it has taken a question and says nothing: a frozen one must not freeze us."""

import time
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import errors

PING_SECONDS = 1.0  # for "are you there?", before each transaction
ANSWER_SECONDS = 35.0  # for anything else; its own statement_timeout is shorter
AWAY_SECONDS = 1.0  # how long it is left alone then, so that not everybody waits


class Patience:
    """The patience of one engine, and what it remembers of a silence."""

    def __init__(self, engine: sa.Engine) -> None:
        self._away_until = 0.0
        sa.event.listen(engine, "do_connect", self._connect)
        sa.event.listen(engine, "checkout", _expect_an_answer)
        sa.event.listen(engine, "checkin", _expect_a_ping)

    def check(self) -> None:
        """Say at once what waiting would say again.

        Raises:
            psycopg.OperationalError: it has said nothing lately.
        """
        if time.monotonic() < self._away_until:
            raise psycopg.OperationalError("it said nothing a moment ago, and is left alone for a second")

    def end(self) -> None:
        """Note a silence."""
        self._away_until = time.monotonic() + AWAY_SECONDS

    def _connect(self, _dialect: Any, _record: Any, args: Any, options: Any) -> "Connection":
        self.check()
        try:
            made = Connection.connect(*args, **options)
        except errors.ConnectionTimeout:
            self.end()
            raise
        made.patience = self
        return made


class Connection(psycopg.Connection[Any]):
    """A connection that does not wait for ever."""

    patience: Patience | None = None
    seconds = ANSWER_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """What the driver waits with for every answer."""
        try:
            return super().wait(gen, interval, timeout or self.seconds)
        except errors._WaitTimeout:  # noqa: SLF001 (the driver asks its callers to translate it)
            self.pgconn.finish()  # what it would still say is not asked for any more
            if self.patience is not None:
                self.patience.end()
            raise psycopg.OperationalError(f"it said nothing for {self.seconds:g} s") from None


def _expect_an_answer(connection: Connection, *_: Any) -> None:
    connection.seconds = ANSWER_SECONDS


def _expect_a_ping(connection: Connection | None, *_: Any) -> None:
    if connection is not None:
        connection.seconds = PING_SECONDS
