"""Shadow deployments: the results of candidates beside the live model, and where two versions agree."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from core import enums
from core.db import clock, tables
from core.db.expressions import IMAGES, RESULTS, insert
from core.db.queries import claims as claim_queries

SHADOWS: Any = tables.ShadowResult.__table__


def record(conn: sa.Connection, model_id: int, outcomes: Sequence[claim_queries.Outcome]) -> None:
    """Store a shadow's results; an image that has one already retains it, and one that was deleted gets none."""
    # Locked, so that they are not deleted before their rows are there.
    ids = [outcome.claim.image_id for outcome in outcomes]
    existing = sa.select(IMAGES.c.id).where(IMAGES.c.id.in_(ids)).with_for_update(read=True, key_share=True)
    existing_ids = set(conn.execute(existing).scalars()) if ids else set()
    rows = [_shadow_row(model_id, outcome) for outcome in outcomes if outcome.claim.image_id in existing_ids]
    if rows:
        statement = insert(conn.dialect.name, SHADOWS).values(classified_at=clock.now())
        conn.execute(statement.on_conflict_do_nothing(), rows)


def count_errors(conn: sa.Connection, model_id: int) -> int:
    """Count the images that a version failed to classify as a shadow."""
    has_failed = (SHADOWS.c.model_id == model_id, SHADOWS.c.error_code.is_not(None))
    return int(conn.execute(sa.select(sa.func.count()).select_from(SHADOWS).where(*has_failed)).scalar_one())


def confusion(conn: sa.Connection, a: Any, b: Any) -> Sequence[sa.Row[Any]]:
    """Count each pair of labels over the images that both versions classified, with the mean confidence of each."""
    both = _classified_by_both(a, b)
    columns = (sa.func.count().label("count"), sa.func.avg(both.c.confidence_a), sa.func.avg(both.c.confidence_b))
    query = sa.select(
        both.c.label_a, both.c.label_b, columns[0], columns[1].label("confidence_a"), columns[2].label("confidence_b")
    )
    return conn.execute(query.group_by(both.c.label_a, both.c.label_b).order_by(both.c.label_a, both.c.label_b)).all()


def disagreements(
    conn: sa.Connection, a: Any, b: Any, *, limit: int, after: tuple[float, int] | None = None
) -> Sequence[sa.Row[Any]]:
    """List the images to which the versions gave different labels, the most confident pairs first.

    `after` holds the `total_confidence` and the `image_id` of the last row of the previous page.
    """
    both = _classified_by_both(a, b)
    total_confidence = (both.c.confidence_a + both.c.confidence_b).label("total_confidence")
    query = sa.select(both, total_confidence, IMAGES.c.name, IMAGES.c.job_id).join(
        IMAGES, IMAGES.c.id == both.c.image_id
    )
    query = (
        query.where(both.c.label_a != both.c.label_b).order_by(total_confidence.desc(), both.c.image_id).limit(limit)
    )
    if after is not None:
        query = query.where(
            (total_confidence < after[0]) | ((total_confidence == after[0]) & (both.c.image_id > after[1]))
        )
    return conn.execute(query).all()


def _classified_by_both(a: Any, b: Any) -> sa.Subquery:
    """Select the images that both classified. At least one of the two was a shadow: an image has one result."""
    pairs = [_live_and_shadow(a, b), _live_and_shadow(b, a, swapped=True), _both_as_shadows(a, b)]
    return sa.union_all(*pairs).subquery("both")


def _live_and_shadow(live: Any, shadow: Any, *, swapped: bool = False) -> sa.Select[Any]:
    """Select the results of one version with those of the other as its shadow."""
    live_columns, shadow_columns = (RESULTS.c.label, RESULTS.c.confidence), (SHADOWS.c.label, SHADOWS.c.confidence)
    query = sa.select(
        SHADOWS.c.image_id,
        *_labelled_columns(*((shadow_columns, live_columns) if swapped else (live_columns, shadow_columns))),
    )
    query = query.join(RESULTS, RESULTS.c.image_id == SHADOWS.c.image_id)
    return query.where(_is_classified_by(SHADOWS, shadow), _is_result_of(live))


def _both_as_shadows(a: Any, b: Any) -> sa.Select[Any]:
    """Select the images of a third version, with both as its shadows."""
    first, second = SHADOWS.alias("first"), SHADOWS.alias("second")
    query = sa.select(
        first.c.image_id, *_labelled_columns((first.c.label, first.c.confidence), (second.c.label, second.c.confidence))
    )
    query = query.join(second, second.c.image_id == first.c.image_id)
    has_own_result = sa.exists().where(RESULTS.c.image_id == first.c.image_id, _is_result_of(a) | _is_result_of(b))
    return query.where(_is_classified_by(first, a), _is_classified_by(second, b), ~has_own_result)


def _labelled_columns(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    names = ("label_a", "confidence_a", "label_b", "confidence_b")
    return [column.label(name) for column, name in zip((*a, *b), names, strict=True)]


def _is_classified_by(shadows: Any, version: Any) -> sa.ColumnElement[bool]:
    return sa.and_(shadows.c.model_id == version.id, shadows.c.error_code.is_(None))


def _is_result_of(version: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        RESULTS.c.status == enums.Status.DONE.value,
        RESULTS.c.model_name == version.name,
        RESULTS.c.model_version == version.version,
    )


def _shadow_row(model_id: int, outcome: claim_queries.Outcome) -> dict[str, Any]:
    return {
        "model_id": model_id,
        "image_id": outcome.claim.image_id,
        "label": outcome.label,
        "confidence": outcome.confidence,
        "scores": outcome.scores,
        "familiarity": outcome.familiarity,
        "error_code": outcome.error_code,
        "timings": outcome.timings,
    }
