"""Reviews: what people say of results. The history is kept; of each image, the last review counts."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from core import enums, errors
from core.db import clock
from core.db.expressions import (
    IMAGES,
    IS_CURRENT_REVIEW,
    JOBS,
    MODELS,
    RESULTS,
    REVIEW_LEASES,
    REVIEWS,
    Page,
    is_job_of,
)
from core.db.queries import counters, shadows

MAX_NAMED_LABELS = 20
MAX_REVIEWS = 100_000  # of a version, the newest: as many as statistics are made of
INHERITED_COLUMNS = ("strategy", "draw_probability")
UNCHANGED_COLUMNS = ("verdict", "label", "note", "reviewed_by")
CHOSEN_BY_HAND = "by_hand"
"""The strategy of a review whose image the queue did not choose, in metrics and statistics."""


@dataclass(frozen=True)
class NewReview:
    """The verdict of a caller on a result; the label is None unless the verdict is `label`."""

    verdict: enums.Verdict
    label: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class ReviewFilter:
    """The reviews to list; a field that is None matches all."""

    owner: str | None = None
    """The key that submitted the job."""
    result: int | None = None
    job: str | None = None
    model: str | None = None
    version: str | None = None
    verdict: str | None = None
    label: str | None = None
    strategy: str | None = None
    reviewed_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    history: bool = False
    """Whether replaced and withdrawn reviews are listed too."""


LIST_COLUMNS = (
    *(REVIEWS, IMAGES.c.name, IMAGES.c.sha256, RESULTS.c.label.label("model_label")),
    *(RESULTS.c.confidence, RESULTS.c.familiarity),
)
PREDICATES: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "owner": lambda owner: JOBS.c.api_key_id == owner,
    "result": lambda image_id: REVIEWS.c.image_id == image_id,
    "job": lambda job: REVIEWS.c.job_id == job,
    "model": lambda model: REVIEWS.c.model_name == model,
    "version": lambda version: REVIEWS.c.model_version == version,
    "verdict": lambda verdict: REVIEWS.c.verdict == verdict,
    "label": lambda label: REVIEWS.c.label == label,
    "strategy": lambda strategy: REVIEWS.c.strategy == strategy,
    "reviewed_by": lambda key: REVIEWS.c.reviewed_by == key,
    "since": lambda moment: REVIEWS.c.reviewed_at >= moment,
    "until": lambda moment: REVIEWS.c.reviewed_at < moment,
}


def put(conn: sa.Connection, image_id: int, owner: str | None, reviewer: str, review: NewReview) -> None:
    """Review a result; the same review by the same key again changes nothing.

    Raises:
        errors.ResultNotFound: the owner has no such result.
        errors.NothingToReview: the image has no label.
        errors.UnknownLabel: the label is not one of the model's.
    """
    result = _locked_result(conn, image_id, owner)
    if result.status != enums.Status.DONE.value:
        raise errors.NothingToReview(f"This image has no label to review, but the status {result.status}.")
    if review.verdict is enums.Verdict.LABEL:
        _check_label(str(review.label), list(result.scores or {}))
    last = _last(conn, image_id)
    values = {**vars(review), "verdict": review.verdict.value, "reviewed_by": reviewer}
    if last is not None and last.replaced_at is None and _is_same(last, values):
        return
    lease = conn.execute(
        sa.delete(REVIEW_LEASES).where(REVIEW_LEASES.c.image_id == image_id).returning(REVIEW_LEASES)
    ).one_or_none()
    origin = lease if lease is not None and lease.leased_by == reviewer else last
    values |= {name: getattr(origin, name) if origin is not None else None for name in INHERITED_COLUMNS}
    _append(conn, result, last, values)


def withdraw(conn: sa.Connection, image_id: int, owner: str | None, reviewer: str) -> None:
    """Withdraw the review of a result; without one, nothing changes.

    Raises:
        errors.ResultNotFound: the owner has no such result.
    """
    result = _locked_result(conn, image_id, owner)
    last = _last(conn, image_id)
    if last is None or last.replaced_at is not None:
        return
    values = {"verdict": enums.Verdict.WITHDRAWN.value, "reviewed_by": reviewer, "replaced_at": clock.now()}
    _append(conn, result, last, values | {name: getattr(last, name) for name in INHERITED_COLUMNS})


def list_page(conn: sa.Connection, filters: ReviewFilter, *, limit: int, after: int | None = None) -> Page:
    """Return reviews, newest first, from beyond the id `after`."""
    query: sa.Select[Any] = sa.select(*LIST_COLUMNS).join(IMAGES, IMAGES.c.id == REVIEWS.c.image_id)
    query = query.join(RESULTS, RESULTS.c.image_id == REVIEWS.c.image_id).join(JOBS, JOBS.c.id == REVIEWS.c.job_id)
    query = query.where(*_conditions(filters))
    if after is not None:
        query = query.where(REVIEWS.c.id < after)
    rows = conn.execute(query.order_by(REVIEWS.c.id.desc()).limit(limit)).all()
    return Page(rows, rows[-1].id if len(rows) == limit else None)


def count_by_version(conn: sa.Connection, filters: ReviewFilter) -> Sequence[sa.Row[Any]]:
    """Count the reviews of each version of each model, with its stage; live versions first."""
    key = (REVIEWS.c.model_name, REVIEWS.c.model_version)
    is_version = sa.and_(MODELS.c.name == key[0], MODELS.c.version == key[1])
    query = sa.select(*key, sa.func.count().label("reviewed"), sa.func.max(MODELS.c.stage).label("stage"))
    query = query.select_from(REVIEWS).join(JOBS, JOBS.c.id == REVIEWS.c.job_id).outerjoin(MODELS, is_version)
    query = query.where(*_conditions(filters)).group_by(*key)
    rows = conn.execute(query.order_by(*key)).all()
    return sorted(rows, key=lambda row: row.stage != enums.Stage.LIVE.value)


def list_judged(conn: sa.Connection, filters: ReviewFilter) -> Sequence[sa.Row[Any]]:
    """Return the newest reviews with the label and the confidence of their results, for statistics."""
    columns = (REVIEWS.c.verdict, REVIEWS.c.label, REVIEWS.c.strategy, REVIEWS.c.draw_probability)
    query: sa.Select[Any] = sa.select(*columns, RESULTS.c.label.label("model_label"), RESULTS.c.confidence)
    query = query.select_from(REVIEWS).join(RESULTS, RESULTS.c.image_id == REVIEWS.c.image_id)
    query = query.join(JOBS, JOBS.c.id == REVIEWS.c.job_id).where(*_conditions(filters))
    return conn.execute(query.order_by(REVIEWS.c.id.desc()).limit(MAX_REVIEWS)).all()


def compare(conn: sa.Connection, a: Any, b: Any) -> sa.Row[Any]:
    """Count the reviewed images that both versions classified, by which of the two were right.

    Images whose verdict is `bad_image` do not count; with `none_of_these` both were wrong.
    """
    shadow_a, shadow_b = shadows.SHADOWS.alias("shadow_a"), shadows.SHADOWS.alias("shadow_b")
    label_a, label_b = _label_by(a, shadow_a), _label_by(b, shadow_b)
    true_label = sa.func.coalesce(REVIEWS.c.label, sa.literal_column("''"))
    is_right = (label_a == true_label, label_b == true_label)
    counts: list[Any] = [
        sa.func.count().label("compared"),
        _count_if(is_right[0]).label("a_right"),
        _count_if(is_right[1]).label("b_right"),
        _count_if(sa.and_(is_right[0], ~is_right[1])).label("only_a_right"),
        _count_if(sa.and_(is_right[1], ~is_right[0])).label("only_b_right"),
    ]
    query: sa.Select[Any] = (
        sa.select(*counts)
        .select_from(REVIEWS)
        .join(RESULTS, RESULTS.c.image_id == REVIEWS.c.image_id)
        .outerjoin(shadow_a, sa.and_(shadow_a.c.model_id == a.id, shadow_a.c.image_id == REVIEWS.c.image_id))
        .outerjoin(shadow_b, sa.and_(shadow_b.c.model_id == b.id, shadow_b.c.image_id == REVIEWS.c.image_id))
        .where(IS_CURRENT_REVIEW, REVIEWS.c.model_name == a.name, REVIEWS.c.verdict != enums.Verdict.BAD_IMAGE.value)
        .where(label_a.is_not(None), label_b.is_not(None))
    )
    return conn.execute(query).one()


def outcome_of(verdict: str, label: str | None, model_label: str | None) -> str:
    """Return what a review says of the model: `right`, `wrong`, `none_of_these` or `bad_image`."""
    if verdict != enums.Verdict.LABEL.value:
        return verdict
    return "right" if label == model_label else "wrong"


def _conditions(filters: ReviewFilter) -> list[sa.ColumnElement[bool]]:
    values = {name: value for name, value in vars(filters).items() if name != "history" and value is not None}
    current = [] if filters.history else [IS_CURRENT_REVIEW]
    return [*current, JOBS.c.purged_at.is_(None), *(PREDICATES[name](value) for name, value in values.items())]


def _locked_result(conn: sa.Connection, image_id: int, owner: str | None) -> sa.Row[Any]:
    """Return a result, locked so that its reviews change one after the other."""
    query = sa.select(RESULTS).join(JOBS, JOBS.c.id == RESULTS.c.job_id)
    query = query.where(RESULTS.c.image_id == image_id, JOBS.c.purged_at.is_(None), *is_job_of(owner))
    row = conn.execute(query.with_for_update(of=RESULTS)).one_or_none()
    if row is None:
        raise errors.ResultNotFound.of(image_id)
    return row


def _last(conn: sa.Connection, image_id: int) -> sa.Row[Any] | None:
    query = sa.select(REVIEWS).where(REVIEWS.c.image_id == image_id)
    return conn.execute(query.order_by(REVIEWS.c.id.desc()).limit(1)).one_or_none()


def _is_same(last: sa.Row[Any], values: dict[str, Any]) -> bool:
    return all(getattr(last, name) == values[name] for name in UNCHANGED_COLUMNS)


def _check_label(label: str, known: Sequence[str]) -> None:
    if label in known:
        return
    similar = difflib.get_close_matches(label, known, n=1)
    hint = f" (did you mean {similar[0]!r}?)" if similar else ""
    more = ", …" if len(known) > MAX_NAMED_LABELS else ""
    labels = ", ".join(known[:MAX_NAMED_LABELS]) + more
    raise errors.UnknownLabel(f"The model has no label {label[:100]!r}{hint}; it has: {labels}.")


def _append(conn: sa.Connection, result: sa.Row[Any], last: sa.Row[Any] | None, values: dict[str, Any]) -> None:
    """Add a row to the history, and replace the one that counted; counters follow."""
    changes: dict[counters.CounterKey, float] = {}
    if last is not None and last.replaced_at is None:
        conn.execute(sa.update(REVIEWS).where(REVIEWS.c.id == last.id).values(replaced_at=clock.now()))
        changes[_counter_key(result, last.strategy, last.verdict, last.label)] = -1
    fixed = {name: getattr(result, name) for name in ("image_id", "job_id", "model_name", "model_version")}
    conn.execute(sa.insert(REVIEWS).values(fixed | values | {"reviewed_at": clock.now()}))
    if "replaced_at" not in values:
        key = _counter_key(result, values["strategy"], values["verdict"], values["label"])
        changes[key] = changes.get(key, 0) + 1
    counters.increment(conn, changes)


def _counter_key(result: sa.Row[Any], strategy: str | None, verdict: str, label: str | None) -> counters.CounterKey:
    outcome = outcome_of(verdict, label, result.label)
    return ("reviews", result.model_name, result.model_version, strategy or CHOSEN_BY_HAND, outcome)


def _label_by(version: Any, shadow_results: Any) -> sa.ColumnElement[Any]:
    """Select the label that a version gave an image, as the live version or as a shadow."""
    is_own_result = sa.and_(RESULTS.c.model_name == version.name, RESULTS.c.model_version == version.version)
    return sa.case((is_own_result, RESULTS.c.label), else_=shadow_results.c.label)


def _count_if(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)
