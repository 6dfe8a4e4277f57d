"""SQL expressions shared by several queries."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext import compiler
from sqlalchemy.sql import functions

from core import enums
from core.db import tables

DELIVERIES: Any = tables.WebhookDelivery.__table__
ENVIRONMENTS: Any = tables.Environment.__table__
INSTALLATIONS: Any = tables.Installation.__table__
IMAGE_DELETIONS: Any = tables.ImageDeletion.__table__
IMAGES: Any = tables.Image.__table__
JOBS: Any = tables.Job.__table__
API_KEYS: Any = tables.ApiKey.__table__
MODELS: Any = tables.Model.__table__
RESULTS: Any = tables.Result.__table__
REVIEWS: Any = tables.Review.__table__
REVIEW_LEASES: Any = tables.ReviewLease.__table__
SCANS: Any = tables.Scan.__table__
URL_FETCHES: Any = tables.UrlFetch.__table__
COUNTERS: Any = tables.Counter.__table__
WORKERS: Any = tables.Worker.__table__
ENDED_COUNT = JOBS.c.done + JOBS.c.failed + JOBS.c.cancelled + JOBS.c.expired
# Written out, not bound: a partial index serves only a query whose text contains its condition.
IS_QUEUED: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'queued'")
IS_DONE: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'done'")
IS_RUNNING: sa.ColumnElement[bool] = IMAGES.c.status == sa.literal_column("'running'")
IS_SCAN_PENDING: sa.ColumnElement[bool] = SCANS.c.status == sa.literal_column("'pending'")
# The review that counts.
IS_CURRENT_REVIEW: sa.ColumnElement[bool] = REVIEWS.c.replaced_at.is_(None)
# Rejected by the header check: no worker has seen it, and its bytes were not stored.
IS_REJECTED = sa.and_(IMAGES.c.status == enums.Status.FAILED, IMAGES.c.attempt == 0)
# Deleted by its caller, and not yet removed: the condition of a partial index, `tables.DELETING`.
IS_DELETING = sa.and_(JOBS.c.deleted_by.is_not(None), JOBS.c.purge_completed_at.is_(None))


def insert(dialect: str, table: Any) -> Any:
    """Create an INSERT that supports ON CONFLICT, which each dialect has in a class of its own."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def is_job_of(owner: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the condition that a job belongs to this key; no condition for None, which stands for every key."""
    return [] if owner is None else [JOBS.c.api_key_id == owner]


def is_owned_by(key: Any) -> sa.ColumnElement[bool]:
    """Return the condition that an image belongs to a key, for queries whose order begins with the key.

    A range, not an equality: PostgreSQL might else walk the images of all keys, where it expects one of this key soon.
    """
    return sa.and_(IMAGES.c.api_key_id >= key, IMAGES.c.api_key_id <= key)


def distinct_values(column: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> sa.CTE:
    """Select the distinct values of a column in `value`, by a loose index scan: one index probe from each to the next.

    The last row is null.
    """
    first = sa.select(column.label("value")).where(*conditions, column.is_not(None)).order_by(column).limit(1)
    found = sa.select(first.subquery().c.value).cte("distinct_values", recursive=True)
    following = sa.select(column).where(*conditions, column > found.c.value).order_by(column).limit(1).correlate(found)
    return found.union_all(sa.select(following.scalar_subquery()).where(found.c.value.is_not(None)))


def row_value(columns: Sequence[Any], values: Iterable[Any]) -> sa.ColumnElement[Any]:
    """Create the row value of a keyset cursor, to be compared with `sa.tuple_(*columns)`."""
    return sa.tuple_(*[sa.literal(value, column.type) for column, value in zip(columns, values, strict=True)])


class Page(list[sa.Row[Any]]):
    """The rows of a page and the cursor of the next.

    Attributes:
        next_cursor: where the next page begins; None if there cannot be one.
    """

    def __init__(self, rows: Iterable[sa.Row[Any]] = (), next_cursor: Any = None) -> None:
        super().__init__(rows)
        self.next_cursor = next_cursor


class Normalized(functions.FunctionElement[str]):
    """A text in a Unicode normalization form; SQLite has a function of this name by `database`."""

    type = sa.String()
    inherit_cache = True


class Composed(Normalized):
    """A text in the form NFC."""

    name = "nfc"
    inherit_cache = True


class Decomposed(Normalized):
    """A text in the form NFD."""

    name = "nfd"
    inherit_cache = True


@compiler.compiles(Normalized, "postgresql")
def _postgresql_normalize(element: Normalized, compiler: Any, **kw: Any) -> str:
    return f"normalize({compiler.process(element.clauses, **kw)}, {element.name.upper()})"


@compiler.compiles(Normalized)
def _normalize(element: Normalized, compiler: Any, **kw: Any) -> str:
    return f"{element.name}({compiler.process(element.clauses, **kw)})"


class AnyOf(functions.FunctionElement[bool]):
    """Whether a column is one of the values in a parameter: a list, as one value."""

    type = sa.Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> "AnyOf":  # noqa: ARG002 (SQLAlchemy names the argument)
        """Return the condition itself: with `= 1`, which SQLAlchemy adds for SQLite, it would use no index."""
        return self


def any_of(column: "sa.Column[Any] | NoIndexHint", parameter: str) -> AnyOf:
    """Return the condition that a column is one of the values in a parameter of a prepared statement."""
    return AnyOf(column, sa.bindparam(parameter, type_=ValueList(column.type)))


class ValueList(sa.TypeDecorator[Any]):
    """A list of values as one parameter: JSON in SQLite, an array in PostgreSQL."""

    impl = sa.JSON
    cache_ok = True

    def __init__(self, item_type: Any) -> None:
        super().__init__()
        self._item_type = item_type

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """Return the type in this dialect."""
        return sa.JSON() if dialect.name == "sqlite" else postgresql.ARRAY(self._item_type)


@compiler.compiles(AnyOf, "sqlite")
def _any_of_json(element: AnyOf, compiler: Any, **kw: Any) -> str:
    column, values = element.clauses
    column_sql, values_sql = compiler.process(column, **kw), compiler.process(values, **kw)
    return f"{column_sql} IN (SELECT value FROM json_each({values_sql}))"  # noqa: S608 (a column and a parameter)


@compiler.compiles(AnyOf)
def _any_of_array(element: AnyOf, compiler: Any, **kw: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **kw)} = ANY({compiler.process(values, **kw)})"


class ParameterRows(functions.FunctionElement[Any]):
    """The values in a parameter as a table with the column `value`."""

    type = sa.Text()
    inherit_cache = True


def parameter_rows(parameter: str) -> sa.TableValuedAlias:
    """Create the table of the values in a parameter: a list of texts, as one value."""
    return ParameterRows(sa.bindparam(parameter, type_=ValueList(sa.Text()))).table_valued("value")


@compiler.compiles(ParameterRows, "sqlite")
def _json_each(element: ParameterRows, compiler: Any, **kw: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **kw)})"


@compiler.compiles(ParameterRows)
def _unnest(element: ParameterRows, compiler: Any, **kw: Any) -> str:
    return f"(SELECT unnest({compiler.process(element.clauses, **kw)}) AS value)"


class JsonItem(functions.FunctionElement[str]):
    """An item of a text that is a list in JSON."""

    type = sa.Text()
    inherit_cache = True


def json_item(text: sa.ColumnElement[Any], index: int, like: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return an item of a text that is a list in JSON, with the type of the column that it is compared with."""
    return sa.cast(JsonItem(text, sa.literal_column(str(index))), like.type)


@compiler.compiles(JsonItem, "sqlite")
def _sqlite_item(element: JsonItem, compiler: Any, **kw: Any) -> str:
    text, index = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"json_extract({text}, '$[{index}]')"


@compiler.compiles(JsonItem)
def _postgresql_item(element: JsonItem, compiler: Any, **kw: Any) -> str:
    text, index = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"CAST({text} AS JSON) ->> {index}"


@compiler.compiles(sa.Lateral, "sqlite")
def _without_lateral(element: sa.Lateral, compiler: Any, **kw: Any) -> str:
    # SQLite lacks the word, but a subquery in FROM may refer to the query around its own.
    return str(compiler.visit_alias(element, **kw | {"lateral": True}))


class NoIndexHint(functions.FunctionElement[Any]):
    """A column whose index SQLite must not start with.

    SQLite has no statistics: it takes a few digests for many rows, and all jobs of an owner for few.
    """

    inherit_cache = True


def no_index(column: sa.Column[Any]) -> NoIndexHint:
    """Wrap a column for a condition that is checked on rows found by another."""
    hint = NoIndexHint(column)
    hint.type = column.type
    return hint


@compiler.compiles(NoIndexHint, "sqlite")
def _sqlite(element: NoIndexHint, compiler: Any, **kw: Any) -> str:
    return f"+{compiler.process(element.clauses, **kw)}"  # with a sign it is not an indexed column


@compiler.compiles(NoIndexHint)
def _default(element: NoIndexHint, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))
