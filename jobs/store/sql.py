"""Pieces of SQL that several questions share."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext import compiler
from sqlalchemy.sql import functions

from jobs import tables

DELIVERIES: Any = tables.Delivery.__table__
ENVIRONMENTS: Any = tables.Environment.__table__
IMAGES: Any = tables.Image.__table__
JOBS: Any = tables.Job.__table__
KEYS: Any = tables.ApiKey.__table__
MODELS: Any = tables.Model.__table__
RESULTS: Any = tables.Result.__table__
SCANS: Any = tables.Scan.__table__
TALLIES: Any = tables.Tally.__table__
WORKERS: Any = tables.Worker.__table__
ENDED = JOBS.c.done + JOBS.c.failed + JOBS.c.cancelled + JOBS.c.expired
# Written out, not bound: a partial index serves only a query whose text shows its condition.
QUEUED: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'queued'")
RUNNING: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'running'")
SCANNING: sa.ColumnElement[bool] = SCANS.c.status == sa.literal_column("'pending'")
# By its header, when it came: no worker has seen it, and its bytes were not kept.
REFUSED = sa.and_(IMAGES.c.status == tables.Status.FAILED, IMAGES.c.attempt == 0)


def insert(dialect: str, table: Any) -> Any:
    """An INSERT that may say ON CONFLICT, which each dialect spells in its own class."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


class Page(list[sa.Row[Any]]):
    """Rows of a list, and where it goes on.

    Attributes:
        next: the place after which the next page begins; None if nothing can be beyond this one.
    """

    def __init__(self, rows: Iterable[sa.Row[Any]] = (), following: Any = None) -> None:
        super().__init__(rows)
        self.next = following


class Aside(functions.FunctionElement[Any]):
    """A column by whose index SQLite is not to begin.

    It does not count, and takes a few digests for many rows, and all jobs of an owner for few.
    """

    inherit_cache = True


def aside(column: sa.Column[Any]) -> Aside:
    """The column, for a condition that is looked at when a row was found by another."""
    found = Aside(column)
    found.type = column.type
    return found


@compiler.compiles(Aside, "sqlite")
def _sqlite(element: Aside, compiler: Any, **kw: Any) -> str:
    return f"+{compiler.process(element.clauses, **kw)}"  # what has a sign is no column with an index


@compiler.compiles(Aside)
def _others(element: Aside, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))
