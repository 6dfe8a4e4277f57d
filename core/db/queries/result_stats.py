"""Statistics over results: how many there are of each kind, with their mean confidence."""

import itertools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from core.db.expressions import IMAGES, JOBS, RESULTS
from core.db.queries import results

MAX_GROUPS = 10_000
HISTOGRAMS = ("confidence", "familiarity")
TIME_GROUPS = ("day", "hour")
BINS = 10
"""The ranges of a histogram; each is named by its lower end, and the last contains 1."""


def count_by(
    conn: sa.Connection, filters: results.ResultFilter, group: str, by: str | None = None
) -> Sequence[sa.Row[Any]]:
    """Count the matching results by a property, or by two, with their mean confidence and familiarity.

    The largest group comes first; times and ranges are in their order.
    """
    key = _group_key(conn, group).label("key")
    keys = [key] if by is None else [key, _group_key(conn, by).label("by")]
    means = [sa.func.avg(RESULTS.c[name]).label(name) for name in ("confidence", "familiarity")]
    query: sa.Select[Any] = sa.select(*keys, sa.func.count().label("count"), *means)
    query = query.where(*results.filter_conditions(filters)).group_by(*keys)
    if filters.owner is None and filters.job is None:  # else its condition or the caller checks that
        partly_purged = sa.select(JOBS.c.id).where(JOBS.c.purged_at.is_not(None), JOBS.c.purge_completed_at.is_(None))
        query = query.where(RESULTS.c.job_id.not_in(partly_purged))
    if filters.name is not None or filters.custom_id is not None:
        query = query.join_from(RESULTS, IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    in_order = group in TIME_GROUPS or group in HISTOGRAMS
    return conn.execute(query.order_by(*keys if in_order else (sa.desc("count"), *keys)).limit(MAX_GROUPS)).all()


def _group_key(conn: sa.Connection, group: str) -> sa.ColumnElement[Any]:
    columns: dict[str, sa.ColumnElement[Any]] = {
        "label": RESULTS.c.label,
        "status": RESULTS.c.status,
        "error": RESULTS.c.error_code,
    }
    if group in columns:
        return columns[group]
    if group in HISTOGRAMS:
        return _lower_end(RESULTS.c[group])
    if group == "model":
        version = sa.func.coalesce(RESULTS.c.model_version, sa.literal_column("''"))
        return sa.func.trim(RESULTS.c.model_name + sa.literal_column("' '") + version, type_=sa.String())
    # Written out, not bound: PostgreSQL must see that the selected and the grouped expression are the same.
    sqlite, postgresql = {
        "day": ("'%Y-%m-%d'", "'YYYY-MM-DD'"),
        "hour": ("'%Y-%m-%dT%H:00:00Z'", '\'YYYY-MM-DD"T"HH24:00:00"Z"\''),
    }[group]
    if conn.dialect.name == "sqlite":
        return sa.func.strftime(sa.literal_column(sqlite), RESULTS.c.finished_at, type_=sa.String())
    return sa.func.to_char(RESULTS.c.finished_at, sa.literal_column(postgresql))


def _lower_end(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Select the lower end of the range that a value is in, as text; null without a value."""
    ends = [f"{number / BINS:g}" for number in range(BINS)]
    # Compared one by one: a product with 10 would put 0.7 into another range than the filters do.
    ranges: list[Any] = [
        (column < sa.literal_column(end), sa.literal_column(f"'{low}'")) for low, end in itertools.pairwise(ends)
    ]
    return sa.case(*ranges, (column.is_not(None), sa.literal_column(f"'{ends[-1]}'")))
