"""The differences between the results of two jobs, by image name, whatever its Unicode normalization form."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from core.db.expressions import IMAGES, RESULTS, Composed, Decomposed, Page

MAX_SCANNED_IMAGES = 10_000  # images of each job of which a page is made
A_IMAGES, B_IMAGES = IMAGES.alias("a_images"), IMAGES.alias("b_images")
NAMESAKES = IMAGES.alias("namesakes")
A_RESULTS, B_RESULTS = RESULTS.alias("a_results"), RESULTS.alias("b_results")


def list_page(
    conn: sa.Connection,
    job_id: str,
    other_job_id: str,
    *,
    limit: int,
    after: str | None = None,
    include_unpaired: bool = False,
    max_scanned: int = MAX_SCANNED_IMAGES,
) -> Page:
    """Return the images of two jobs `a` and `b` whose labels differ, ordered by name, from beyond the name `after`.

    With `include_unpaired` also the images that have a result in only one of the jobs: `in_a` or `in_b` is false there.
    They are searched for among the next `max_scanned` images of each job only: a page may have fewer rows than `limit`,
    or none, and still a cursor for the next page.
    """
    branches = [_changed(job_id, other_job_id)]
    if include_unpaired:
        branches += [_unpaired(job_id, other_job_id), _unpaired(other_job_id, job_id, swapped=True)]
    next_cursor = _last_scanned(conn, [job_id, other_job_id] if include_unpaired else [job_id], after, max_scanned)
    # Each branch is read in the order of names, and no further than the page needs.
    pages = [
        query.where(name > after if after is not None else sa.true())
        .where(name <= next_cursor if next_cursor is not None else sa.true())
        .order_by(name)
        .limit(limit)
        .subquery()
        for query, name in branches
    ]
    union = sa.union_all(*[sa.select(page) for page in pages]).subquery("rows")
    rows = conn.execute(sa.select(union).order_by(union.c.name).limit(limit)).all()
    return Page(rows, rows[-1].name if len(rows) == limit else next_cursor)


def _last_scanned(conn: sa.Connection, job_ids: Sequence[str], after: str | None, max_scanned: int) -> str | None:
    """Return the name up to which `max_scanned` images of a job follow another name; None if fewer do."""
    boundaries = [
        sa.select(IMAGES.c.name)
        .where(IMAGES.c.job_id == job_id, IMAGES.c.name > after if after is not None else sa.true())
        .order_by(IMAGES.c.name)
        .offset(max_scanned - 1)
        .limit(1)
        .subquery()
        for job_id in job_ids
    ]
    names = sa.union_all(*[sa.select(boundary) for boundary in boundaries]).subquery()
    return conn.execute(sa.select(sa.func.min(names.c.name))).scalar()  # the database's order, not Python's


def count_pairs(conn: sa.Connection, job_id: str, other_job_id: str) -> Sequence[sa.Row[Any]]:
    """Count the images of two jobs by their labels `a` and `b`, also the same ones; the most frequent pairs first."""
    labels = (A_RESULTS.c.label.label("a"), B_RESULTS.c.label.label("b"))
    query = _paired(job_id, other_job_id, *labels, sa.func.count().label("count")).group_by(*labels)
    return conn.execute(query.order_by(sa.desc("count"), *labels)).all()


def _changed(job_id: str, other_job_id: str) -> tuple[sa.Select[Any], sa.ColumnElement[str]]:
    columns = _side("a", A_RESULTS) + _side("b", B_RESULTS)
    query = _paired(job_id, other_job_id, A_IMAGES.c.name, *columns)
    return query.where(A_RESULTS.c.label.is_distinct_from(B_RESULTS.c.label)), A_IMAGES.c.name


def _paired(job_id: str, other_job_id: str, *columns: Any) -> sa.Select[Any]:
    """Select columns of the images that have a result in both jobs."""
    return (
        sa.select(*columns)
        .select_from(A_IMAGES)
        .join(A_RESULTS, A_RESULTS.c.image_id == A_IMAGES.c.id)
        .join(B_IMAGES, sa.and_(B_IMAGES.c.job_id == other_job_id, _has_same_name(B_IMAGES)))
        .join(B_RESULTS, B_RESULTS.c.image_id == B_IMAGES.c.id)
        .where(A_IMAGES.c.job_id == job_id)
        .where(sa.or_(B_IMAGES.c.name == A_IMAGES.c.name, ~_has_exact_name(other_job_id)))
    )


def _unpaired(job_id: str, other_job_id: str, *, swapped: bool = False) -> tuple[sa.Select[Any], sa.ColumnElement[str]]:
    """Select the images with a result in the first job and none in the second, which is `a` if `swapped`."""
    has_pair = (
        sa.exists()
        .where(B_IMAGES.c.job_id == other_job_id, _has_same_name(B_IMAGES))
        .where(B_RESULTS.c.image_id == B_IMAGES.c.id)
    )
    own, other = ("b", "a") if swapped else ("a", "b")
    sides = {own: _side(own, A_RESULTS), other: _side(other, None)}
    query = (
        sa.select(A_IMAGES.c.name, *sides["a"], *sides["b"])
        .join(A_RESULTS, A_RESULTS.c.image_id == A_IMAGES.c.id)
        .where(A_IMAGES.c.job_id == job_id, ~has_pair)
    )
    return query, A_IMAGES.c.name


def _has_same_name(images: Any) -> Any:
    """Select the images with the name of `A_IMAGES`, in any Unicode normalization form."""
    return images.c.name.in_([A_IMAGES.c.name, Composed(A_IMAGES.c.name), Decomposed(A_IMAGES.c.name)])


def _has_exact_name(job_id: str) -> sa.Exists:
    """Select whether a job has an image with the name of `A_IMAGES` in the same form."""
    return sa.exists().where(NAMESAKES.c.job_id == job_id, NAMESAKES.c.name == A_IMAGES.c.name)


def _side(name: str, results: Any) -> list[sa.ColumnElement[Any]]:
    """Select whether a job has a result, its label and its confidence."""
    label, confidence = (sa.null() if results is None else results.c[column] for column in ("label", "confidence"))
    return [
        sa.literal(results is not None).label(f"in_{name}"),
        sa.cast(label, RESULTS.c.label.type).label(f"label_{name}"),
        sa.cast(confidence, RESULTS.c.confidence.type).label(f"confidence_{name}"),
    ]
