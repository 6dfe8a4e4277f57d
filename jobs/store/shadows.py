"""Shadows: what candidates said beside the live model, and where two versions of a model agree."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import work
from jobs.store.sql import IMAGES, RESULTS, insert

SHADOWS: Any = tables.Shadow.__table__


def write(c: sa.Connection, model_id: int, fates: Sequence[work.Fate]) -> None:
    """Keep what a shadow said of images; what it said of one before stays."""
    if fates:
        new = insert(c.dialect.name, SHADOWS).values(judged_at=clock.now())
        c.execute(new.on_conflict_do_nothing(), [_row(model_id, fate) for fate in fates])


def errors(c: sa.Connection, model_id: int) -> int:
    """How many images a version could not judge as a shadow."""
    failed = (SHADOWS.c.model_id == model_id, SHADOWS.c.error_code.is_not(None))
    return int(c.execute(sa.select(sa.func.count()).select_from(SHADOWS).where(*failed)).scalar_one())


def confusion(c: sa.Connection, a: Any, b: Any) -> Sequence[sa.Row[Any]]:
    """Over the images that both versions judged: for each pair of labels how many, and the mean confidence of each."""
    both = _both(a, b)
    columns = (sa.func.count().label("count"), sa.func.avg(both.c.sure_a), sa.func.avg(both.c.sure_b))
    query = sa.select(
        both.c.label_a, both.c.label_b, columns[0], columns[1].label("sure_a"), columns[2].label("sure_b")
    )
    return c.execute(query.group_by(both.c.label_a, both.c.label_b).order_by(both.c.label_a, both.c.label_b)).all()


def disagreements(
    c: sa.Connection, a: Any, b: Any, *, limit: int, after: tuple[float, int] | None = None
) -> Sequence[sa.Row[Any]]:
    """The images to which the versions gave different labels, those first of which both are surest.

    `after` are the `sure` and the `image_id` of the last row of the page before.
    """
    both = _both(a, b)
    sure = (both.c.sure_a + both.c.sure_b).label("sure")
    query = sa.select(both, sure, IMAGES.c.name, IMAGES.c.job_id).join(IMAGES, IMAGES.c.id == both.c.image_id)
    query = query.where(both.c.label_a != both.c.label_b).order_by(sure.desc(), both.c.image_id).limit(limit)
    if after is not None:
        query = query.where((sure < after[0]) | ((sure == after[0]) & (both.c.image_id > after[1])))
    return c.execute(query).all()


def _both(a: Any, b: Any) -> sa.Subquery:
    """The images that both judged. One of the two was a shadow, or both: an image has one result."""
    pairs = [_beside(a, b), _beside(b, a, swapped=True), _shadows(a, b)]
    return sa.union_all(*pairs).subquery("both")


def _beside(live: Any, shadow: Any, *, swapped: bool = False) -> sa.Select[Any]:
    """What was answered by one, with the other as its shadow."""
    ours, theirs = (RESULTS.c.label, RESULTS.c.confidence), (SHADOWS.c.label, SHADOWS.c.confidence)
    query = sa.select(SHADOWS.c.image_id, *_named(*((theirs, ours) if swapped else (ours, theirs))))
    query = query.join(RESULTS, RESULTS.c.image_id == SHADOWS.c.image_id)
    return query.where(_judged(SHADOWS, shadow), _answered(live))


def _shadows(a: Any, b: Any) -> sa.Select[Any]:
    """What a third version answered, with both as its shadows."""
    first, second = SHADOWS.alias("first"), SHADOWS.alias("second")
    query = sa.select(
        first.c.image_id, *_named((first.c.label, first.c.confidence), (second.c.label, second.c.confidence))
    )
    query = query.join(second, second.c.image_id == first.c.image_id)
    counted = sa.exists().where(RESULTS.c.image_id == first.c.image_id, _answered(a) | _answered(b))
    return query.where(_judged(first, a), _judged(second, b), ~counted)


def _named(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    names = ("label_a", "sure_a", "label_b", "sure_b")
    return [column.label(name) for column, name in zip((*a, *b), names, strict=True)]


def _judged(shadows: Any, version: Any) -> sa.ColumnElement[bool]:
    return sa.and_(shadows.c.model_id == version.id, shadows.c.error_code.is_(None))


def _answered(version: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        RESULTS.c.status == tables.Status.DONE.value,
        RESULTS.c.model == version.name,
        RESULTS.c.model_version == version.version,
    )


def _row(model_id: int, fate: work.Fate) -> dict[str, Any]:
    return {
        "model_id": model_id,
        "image_id": fate.claim.image_id,
        "label": fate.label,
        "confidence": fate.confidence,
        "scores": fate.scores,
        "error_code": fate.error_code,
        "timings": fate.timings,
    }
