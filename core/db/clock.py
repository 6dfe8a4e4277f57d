"""The database's clock, as SQL: leases and timestamps never use the clock of a process."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext import compiler
from sqlalchemy.sql import functions

from core.db import tables


class Now(functions.FunctionElement[datetime]):
    """The time of this statement, plus some seconds."""

    type = tables.Timestamp()
    inherit_cache = True


def now(seconds: float = 0.0) -> Now:
    """Return the database's time plus `seconds` (negative: in the past)."""
    return Now(sa.literal(float(seconds), sa.Float()))


def now_plus_parameter(parameter: str) -> Now:
    """Return the database's time plus the seconds in a parameter of the statement; NULL gives NULL."""
    return Now(sa.bindparam(parameter, type_=sa.Float()))


@compiler.compiles(Now, "sqlite")
def _compile_sqlite(element: Now, compiler: Any, **kw: Any) -> str:
    # The same text that SQLAlchemy writes for a datetime: six digits after the second.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(element.clauses, **kw)} || ' seconds')"


@compiler.compiles(Now, "postgresql")
def _compile_postgresql(element: Now, compiler: Any, **kw: Any) -> str:
    # clock_timestamp(), not now(): a transaction that waited for a lock must not lease in the past.
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"
