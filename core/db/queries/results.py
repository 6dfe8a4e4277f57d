"""Results: of one job, or of all jobs by any filter."""

import contextlib
import enum
import functools
import operator
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from core import errors
from core.db import clock
from core.db.expressions import (
    API_KEYS,
    ENDED_COUNT,
    ENVIRONMENTS,
    IMAGES,
    IS_CURRENT_REVIEW,
    IS_DELETING,
    JOBS,
    RESULTS,
    REVIEWS,
    URL_FETCHES,
    Composed,
    Page,
    is_job_of,
    no_index,
)
from core.db.queries import environments

RECENT_RESULTS, MANY_THRESHOLD = 5_000, 50  # an owner with so many among so many recent results is common
MAX_TRANSACTION_TIME = timedelta(minutes=1)  # longer than any transaction
MAX_SCANNED_RESULTS = 20_000  # results per page if the matches may be rare; what has no more is found and sorted
OLDEST_JOBS = 100  # of which a purge is in progress, if any is
# With + 0, because PostgreSQL else merges the two indexes, and reads the reviews of all pages before this one.
IS_REVIEW_OF_RESULT = sa.and_(REVIEWS.c.image_id == RESULTS.c.image_id + 0, IS_CURRENT_REVIEW)
REVIEW_FIELDS = ("verdict", "label", "note", "reviewed_by", "reviewed_at", "strategy")
REVIEW_COLUMNS = [REVIEWS.c[name].label(f"review_{name}") for name in REVIEW_FIELDS]
OWNER_NAME = (
    sa.select(API_KEYS.c.name)
    .join(JOBS, JOBS.c.api_key_id == API_KEYS.c.id)
    .where(JOBS.c.id == RESULTS.c.job_id)
    .correlate(RESULTS)
    .scalar_subquery()
    .label("owner")
)
"""The name of the key that submitted the job of a result."""
RESULT_COLUMNS = (
    *(RESULTS, OWNER_NAME, IMAGES.c.name, IMAGES.c.custom_id, IMAGES.c.worker),
    *(*environments.COLUMNS, *REVIEW_COLUMNS),
)
RESULTS_FROM = (
    RESULTS.join(IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    .outerjoin(ENVIRONMENTS, ENVIRONMENTS.c.id == RESULTS.c.environment_id)
    .outerjoin(REVIEWS, IS_REVIEW_OF_RESULT)
)


Compare = Callable[[Any, Any], sa.ColumnElement[bool]]


class ResultOrder(enum.StrEnum):
    """The order of a list of results."""

    IMAGE = "image"  # the order of the images
    NEWEST = "newest"  # the reverse order
    CONFIDENCE = "confidence"  # the least confident first; only those that have a label
    FAMILIARITY = "familiarity"  # the least familiar first; only those that have one


class ResultCursor(NamedTuple):
    """The position where a page ended."""

    image_id: int
    value: float = 0.0
    """The confidence or familiarity of the last result, where the order is by that."""


@dataclass(frozen=True)
class ResultFilter:
    """The results to list; a field that is None matches all."""

    owner: str | None = None
    job: str | None = None
    label: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    min_familiarity: float | None = None
    max_familiarity: float | None = None
    status: str | None = None
    error: str | None = None
    model: str | None = None
    version: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    name: str | None = None
    """A text that the image's name contains, ignoring case and the Unicode normalization form."""
    custom_id: str | None = None
    reviewed: bool | None = None
    """Whether it has a review that counts."""


def list_page(
    conn: sa.Connection,
    filters: ResultFilter,
    *,
    limit: int,
    after: ResultCursor | None = None,
    order: ResultOrder = ResultOrder.IMAGE,
    max_scanned: int = MAX_SCANNED_RESULTS,
) -> Page:
    """Return results in an order, from beyond a cursor.

    Matches that no index covers are searched for among the next `max_scanned` results only: a page may have fewer rows
    than `limit`, or none, and still a cursor for the next page.
    """
    value_column = VALUE_COLUMNS.get(order)
    if value_column is not None and filters.error is not None:
        return Page()  # a result with an error has neither confidence nor familiarity
    newest_first = order is ResultOrder.NEWEST
    index_scan = (
        _scan_by_value(conn, filters, value_column, max_scanned)
        if value_column is not None
        else _scan_by_image(conn, filters, max_scanned, newest_first=newest_first)
    )
    is_of_all = filters.owner is None and filters.job is None
    if is_of_all and not index_scan.is_short and _is_purging(conn):
        index_scan = replace(index_scan, is_sparse=True)  # the scan may meet any number of results of purged jobs
    if newest_first and index_scan.is_sparse and filters.until is not None:
        after = min((cursor for cursor in (after, _cursor_after(conn, filters.until)) if cursor), default=None)
    is_beyond, is_within = (operator.lt, operator.ge) if newest_first else (operator.gt, operator.le)
    start = index_scan.start_conditions if after is None else index_scan.key_conditions(is_beyond, after)
    query = sa.select(*RESULT_COLUMNS).select_from(RESULTS_FROM)
    query = query.where(*index_scan.index_conditions, *index_scan.other_conditions, *start)
    if is_of_all:  # else its conditions or the caller check that
        query = query.where(_is_owned_by(None))
    order_by = [column.desc() if newest_first else column for column in index_scan.order_columns]
    next_cursor = None
    if index_scan.is_sparse:
        scanned = sa.select(*index_scan.order_columns).where(*index_scan.index_conditions, *start[:1])  # not the join's
        boundary = conn.execute(scanned.order_by(*order_by).offset(max_scanned - 1).limit(1)).one_or_none()
        if boundary is not None:
            next_cursor = ResultCursor(boundary[-1], boundary[0] if value_column is not None else 0.0)
            query = query.where(*index_scan.key_conditions(is_within, next_cursor))
    rows = conn.execute(query.order_by(*order_by).limit(limit)).all()
    if len(rows) == limit:
        value = 0.0 if value_column is None else getattr(rows[-1], value_column.name)
        next_cursor = ResultCursor(rows[-1].image_id, value)
    return Page(rows, next_cursor)


def first_per_job(
    conn: sa.Connection, jobs: Collection[sa.Row[Any]], *, limit: int
) -> Mapping[str, Sequence[sa.Row[Any]]]:
    """Return the first results of each of these jobs, by its id; one query reads all jobs that have no more."""
    large = {job.id: list_page(conn, ResultFilter(job=job.id), limit=limit) for job in jobs if job.total > limit}
    small: dict[str, list[sa.Row[Any]]] = {job.id: [] for job in jobs if job.total <= limit}
    for row in conn.execute(_jobs_query(), {"jobs": list(small)}):
        small[row.job_id].append(row)
    return {**large, **small}


def _is_owned_by(owner: str | None) -> sa.ColumnElement[bool]:
    """Select the results of this owner's jobs without purged ones, by a lookup for each result that is scanned.

    `owner` None stands for every key.
    """
    is_owner = [] if owner is None else [no_index(JOBS.c.api_key_id) == owner]
    return sa.exists().where(JOBS.c.id == RESULTS.c.job_id, *is_owner, JOBS.c.purged_at.is_(None))


def _is_common(conn: sa.Connection, owner: str, max_scanned: int) -> bool:
    """Return whether an owner has many of the latest results, or more than a page may scan.

    A scan along any index meets enough of the first, and is bounded for the second. The few results of others are found
    by their jobs, and sorted. SQLite does not know who has few, and would sort a million.
    """
    newest_id = conn.execute(sa.select(sa.func.max(RESULTS.c.image_id))).scalar() or 0
    recent = sa.select(RESULTS.c.image_id).join(IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    recent = recent.where(RESULTS.c.image_id > newest_id - RECENT_RESULTS, _is_owned_by(owner)).limit(MANY_THRESHOLD)
    if len(conn.execute(recent).all()) == MANY_THRESHOLD:
        return True
    is_visible = (JOBS.c.api_key_id == owner, JOBS.c.purged_at.is_(None))
    newest_jobs = sa.select(ENDED_COUNT.label("results")).where(*is_visible).order_by(JOBS.c.created_at.desc())
    first = newest_jobs.limit(max_scanned + 1).subquery()
    sums = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(first.c.results), 0))
    job_count, result_count = conn.execute(sums).one()
    return int(max(job_count, result_count)) > max_scanned


def _is_short(conn: sa.Connection, column: Any, value: Any, max_scanned: int) -> bool:
    """Return whether a column of `INDEX_COLUMNS` has a value in no more rows than a page may scan."""
    id_column = RESULTS.c.image_id if column.table is RESULTS else IMAGES.c.id
    # Bounded, not compared, so that PostgreSQL walks along no other index.
    query = sa.select(id_column).where(column >= value, column <= value).order_by(column, id_column)
    return conn.execute(query.offset(max_scanned).limit(1)).first() is None


def _is_purging(conn: sa.Connection) -> bool:
    """Return whether there are jobs that were deleted or purged, and whose results have not all been removed."""
    deleted = sa.select(JOBS.c.id).where(IS_DELETING).limit(1)
    if conn.execute(deleted).first() is not None:
        return True
    # Retention purges the jobs that finished first.
    oldest = sa.select(JOBS.c.purged_at).where(JOBS.c.finished_at < clock.now(), JOBS.c.purge_completed_at.is_(None))
    return any(conn.execute(oldest.order_by(JOBS.c.finished_at).limit(OLDEST_JOBS)).scalars())


def _cursor_after(conn: sa.Connection, moment: datetime) -> ResultCursor | None:
    """Return the cursor of an image that came after a moment, if any: it and all with higher ids finished later.

    Else a query for results before a moment would scan all that came since. Ids are assigned in the order in which
    images come, except by concurrent transactions, which end within `MAX_TRANSACTION_TIME`.
    """
    first_image = (
        sa.select(RESULTS.c.image_id).where(RESULTS.c.job_id == JOBS.c.id).order_by(RESULTS.c.image_id).limit(1)
    )
    with contextlib.suppress(OverflowError):
        is_later = (JOBS.c.created_at > moment + MAX_TRANSACTION_TIME, JOBS.c.purged_at.is_(None))
        next_images = (
            sa.select(first_image.scalar_subquery()).where(*is_later).order_by(JOBS.c.created_at, JOBS.c.id).limit(10)
        )
        return min(
            (ResultCursor(image_id) for image_id in conn.execute(next_images).scalars() if image_id is not None),
            default=None,
        )
    return None


@functools.cache
def _jobs_query() -> sa.Select[Any]:
    query = sa.select(*RESULT_COLUMNS).select_from(RESULTS_FROM)
    filtered = query.where(RESULTS.c.job_id.in_(sa.bindparam("jobs", expanding=True)))
    return filtered.order_by(RESULTS.c.job_id, RESULTS.c.image_id)


@dataclass(frozen=True)
class _IndexScan:
    """The index along which a page is read."""

    order_columns: Sequence[Any]
    """The columns of the order; the last is the image id."""
    index_conditions: Sequence[sa.ColumnElement[bool]]
    """The conditions that the index covers."""
    other_conditions: Sequence[sa.ColumnElement[bool]]
    """The conditions that the index does not cover."""
    is_sparse: bool
    """Whether matches may be so rare that no page can search for all of them."""
    key_condition: Callable[[Compare, ResultCursor], sa.ColumnElement[bool]]
    """Compares the position of a result with a cursor."""
    is_short: bool = False
    """Whether so few results match a condition with an index of its own that all of them can be found and sorted."""
    start_conditions: Sequence[sa.ColumnElement[bool]] = ()
    """Further conditions for where the first page begins; a later one begins at its cursor."""
    joined_image_id: Any = None
    """The image id in the joined table: a merge join over an unbounded one would begin at its end."""

    def key_conditions(self, compare: Compare, cursor: ResultCursor) -> list[sa.ColumnElement[bool]]:
        """Compare the position with a cursor in both tables."""
        joined = [] if self.joined_image_id is None else [compare(self.joined_image_id, cursor.image_id)]
        return [self.key_condition(compare, cursor), *joined]


def _scan_by_value(conn: sa.Connection, filters: ResultFilter, column: Any, max_scanned: int) -> _IndexScan:
    """Scan along the index of a column of `VALUE_COLUMNS`, the lowest values first.

    If few results have a value that is asked for, they are found by the index of that one instead, and sorted.
    """
    filters, owner_conditions, passes_other_owners = _resolve_owner(conn, filters, max_scanned)
    values = {name: value for name in INDEX_COLUMNS if (value := getattr(filters, name)) is not None}
    short = next(
        (name for name, value in values.items() if _is_short(conn, INDEX_COLUMNS[name], value, max_scanned)), None
    )
    other_conditions = [*owner_conditions, *filter_conditions(filters, exclude=short, avoid_indexes=True)]
    if short is not None:
        other_conditions.append(INDEX_COLUMNS[short] == values[short])
    order_columns = [column, RESULTS.c.image_id]
    sort_key = sa.tuple_(*order_columns)
    return _IndexScan(
        order_columns,
        [column.is_not(None)],
        other_conditions,
        bool(other_conditions) and passes_other_owners and short is None,
        lambda compare, cursor: compare(sort_key, sa.tuple_(sa.literal(cursor.value), sa.literal(cursor.image_id))),
        is_short=short is not None,
    )


def _scan_by_image(conn: sa.Connection, filters: ResultFilter, max_scanned: int, *, newest_first: bool) -> _IndexScan:
    """Scan along the index that leads with one of the columns asked for, if there is one."""
    filters, owner_conditions, passes_other_owners = _resolve_owner(conn, filters, max_scanned)
    leading = next((name for name in INDEX_COLUMNS if getattr(filters, name) is not None), None)
    other_conditions = [
        *owner_conditions,
        *filter_conditions(filters, exclude=leading, avoid_indexes=leading is not None),
    ]
    is_sparse = bool(other_conditions) and passes_other_owners
    column: Any = None if leading is None else INDEX_COLUMNS[leading]
    image_id = RESULTS.c.image_id if column is None or column.table is RESULTS else IMAGES.c.id
    key_condition = lambda compare, cursor: compare(image_id, cursor.image_id)  # noqa: E731 (shorter than a function)
    if leading is None:
        return _IndexScan([image_id], [], other_conditions, is_sparse, key_condition, joined_image_id=IMAGES.c.id)
    order_columns, value = [column, image_id], getattr(filters, leading)
    if conn.dialect.name == "sqlite":  # which bounds an index by the first of two columns that are compared together
        return _IndexScan(order_columns, [column == value], other_conditions, is_sparse, key_condition)
    # Bounded, not compared, and the first to order by: PostgreSQL, which knows how many rows have a value, but not that
    # they lie together, would else walk all results and hope to meet some soon. It needs exactly one lower bound: with
    # two it may start the scan at the wrong one.
    sort_key, leading_value = sa.tuple_(*order_columns), sa.literal(value, column.type)
    key_condition = lambda compare, cursor: compare(sort_key, sa.tuple_(leading_value, sa.literal(cursor.image_id)))  # noqa: E731 (as above)
    start, end = (column <= value, column >= value) if newest_first else (column >= value, column <= value)
    return _IndexScan(order_columns, [end], other_conditions, is_sparse, key_condition, start_conditions=[start])


def _resolve_owner(
    conn: sa.Connection, filters: ResultFilter, max_scanned: int
) -> tuple[ResultFilter, list[sa.ColumnElement[bool]], bool]:
    """Return a filter without the owner, its conditions, and whether the scan passes other owners' results."""
    if filters.owner is None or filters.job is not None:
        return filters, [], True
    if _is_common(conn, filters.owner, max_scanned):
        return replace(filters, owner=None), [_is_owned_by(filters.owner)], True
    return filters, [], False


def get_many(conn: sa.Connection, image_ids: Collection[int]) -> Mapping[int, sa.Row[Any]]:
    """Return the results of these images, by their ids."""
    query = sa.select(*RESULT_COLUMNS).select_from(RESULTS_FROM).where(RESULTS.c.image_id.in_(image_ids))
    return {row.image_id: row for row in conn.execute(query)}


RESUBMIT_COLUMNS = ("sha256", "bytes", "source", "location", "attempt")


def get(conn: sa.Connection, image_id: int, owner: str | None) -> sa.Row[Any]:
    """Return the result of an image with what a new submission of it needs; `owner` None sees every key's.

    Raises:
        errors.ResultNotFound: the owner has no such result, or the purge of its job has begun.
    """
    query: sa.Select[Any] = (
        sa.select(*RESULT_COLUMNS, *[IMAGES.c[name] for name in RESUBMIT_COLUMNS], JOBS.c.api_key_id, URL_FETCHES.c.url)
        .select_from(
            RESULTS_FROM.join(JOBS, JOBS.c.id == RESULTS.c.job_id).outerjoin(
                URL_FETCHES, URL_FETCHES.c.image_id == IMAGES.c.id
            )
        )
        .where(RESULTS.c.image_id == image_id, JOBS.c.purged_at.is_(None), *is_job_of(owner))
    )
    row = conn.execute(query).one_or_none()
    if row is None:
        raise errors.ResultNotFound.of(image_id)
    return row


def has_review() -> sa.ColumnElement[bool]:
    """Return the condition that a result has a review that counts."""
    reviews = REVIEWS.alias("reviews_of_result")
    return sa.exists().where(reviews.c.image_id == RESULTS.c.image_id, reviews.c.replaced_at.is_(None))


def filter_conditions(
    filters: ResultFilter, *, exclude: str | None = None, avoid_indexes: bool = False
) -> list[sa.ColumnElement[bool]]:
    """Build the conditions of a filter but for one field; `avoid_indexes` makes SQLite use the scan's index only."""
    values = {name: value for name, value in vars(filters).items() if value is not None and name != exclude}
    columns = {name: no_index(column) if avoid_indexes else column for name, column in INDEX_COLUMNS.items()}
    return [columns[name] == value if name in columns else PREDICATES[name](value) for name, value in values.items()]


# Columns followed by the image id in an index; as a rule, the one with the fewest rows first.
INDEX_COLUMNS: dict[str, Any] = {
    "job": RESULTS.c.job_id,
    "custom_id": IMAGES.c.custom_id,
    "error": RESULTS.c.error_code,
    "version": RESULTS.c.model_version,
    "label": RESULTS.c.label,
    "model": RESULTS.c.model_name,
}
VALUE_COLUMNS: dict[ResultOrder, Any] = {
    ResultOrder.CONFIDENCE: RESULTS.c.confidence,
    ResultOrder.FAMILIARITY: RESULTS.c.familiarity,
}
"""The columns by which results can be ordered, each followed by the image id in a partial index."""
PREDICATES: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {  # of the fields without a column in INDEX_COLUMNS
    "owner": lambda owner: RESULTS.c.job_id.in_(
        sa.select(JOBS.c.id).where(JOBS.c.api_key_id == owner, JOBS.c.purged_at.is_(None))
    ),
    "min_confidence": lambda confidence: RESULTS.c.confidence >= confidence,
    "max_confidence": lambda confidence: RESULTS.c.confidence <= confidence,
    "min_familiarity": lambda familiarity: RESULTS.c.familiarity >= familiarity,
    "max_familiarity": lambda familiarity: RESULTS.c.familiarity <= familiarity,
    "status": lambda status: RESULTS.c.status == status,
    "since": lambda moment: RESULTS.c.finished_at >= moment,
    "until": lambda moment: RESULTS.c.finished_at < moment,
    "reviewed": lambda reviewed: has_review() if reviewed else ~has_review(),
    "name": lambda text: Composed(IMAGES.c.name).icontains(unicodedata.normalize("NFC", text), autoescape=True),
}
