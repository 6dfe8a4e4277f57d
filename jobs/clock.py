"""The database's clock, as SQL: leases and timestamps never trust a process's own; and how a moment is written."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext import compiler
from sqlalchemy.sql import functions

from jobs import tables


class Now(functions.FunctionElement[datetime]):
    """The moment of this statement, some seconds on."""

    type = tables.Timestamp()
    inherit_cache = True


def now(seconds: float = 0.0) -> Now:
    """The database's own time, `seconds` on (negative: ago)."""
    return Now(sa.literal(float(seconds), sa.Float()))


def given(parameter: str) -> Now:
    """The same, as many seconds on as a parameter of the statement says; NULL is no moment."""
    return Now(sa.bindparam(parameter, type_=sa.Float()))


def written(moment: datetime) -> str:
    """RFC 3339, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@compiler.compiles(Now, "sqlite")
def _sqlite(element: Now, compiler: Any, **kw: Any) -> str:
    # The same text that SQLAlchemy writes for a datetime: six digits after the second.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(element.clauses, **kw)} || ' seconds')"


@compiler.compiles(Now, "postgresql")
def _postgresql(element: Now, compiler: Any, **kw: Any) -> str:
    # clock_timestamp(), not now(): a transaction that waited for a lock must not lease in the past.
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"
