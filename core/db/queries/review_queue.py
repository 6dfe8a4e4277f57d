"""The review queue: chooses images for review by a strategy, and leases them to one person at a time."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from core import enums
from core.db import clock
from core.db.expressions import (
    IMAGES,
    IS_CURRENT_REVIEW,
    JOBS,
    MODELS,
    RESULTS,
    REVIEW_LEASES,
    REVIEWS,
    insert,
    is_job_of,
)
from core.db.queries import results, shadows

LEASE_SECONDS = 600.0
FORGOTTEN_SECONDS = 86_400.0  # after its end, a lease says for so long how its image was chosen
MAX_ROUNDS = 20
MAX_SCANNED = 10_000
DRAWS_PER_ROUND = 2_000
Leases = Mapping[int, float | None]
"""The leased images, with the probability of the draw of each that was drawn."""
ORDERS = {
    enums.Strategy.LEAST_CONFIDENT: results.ResultOrder.CONFIDENCE,
    enums.Strategy.UNFAMILIAR: results.ResultOrder.FAMILIARITY,
}


@dataclass(frozen=True)
class Queue:
    """The images of one version to be reviewed by one person."""

    reviewer: str
    model: str
    version: str
    strategy: enums.Strategy
    owner: str | None = None
    """The key whose images are reviewed; None for those of all keys."""


@dataclass(frozen=True)
class Selection:
    """Images that were chosen for review."""

    image_ids: Sequence[int] = ()
    draw_probability: float | None = None
    """Of each image in a random draw; None if they were not drawn."""
    also_drawn_ids: Sequence[int] = ()
    """Images that were drawn too, and have a review or a lease already: they become part of the random sample."""


def outstanding(conn: sa.Connection, queue: Queue, *, limit: int) -> Sequence[int]:
    """Return the images that this person has leased and not reviewed yet."""
    query = sa.select(REVIEW_LEASES.c.image_id).join(RESULTS, RESULTS.c.image_id == REVIEW_LEASES.c.image_id)
    query = query.where(REVIEW_LEASES.c.leased_by == queue.reviewer, _is_leased())
    query = query.where(_has_visible_job(queue))
    query = query.where(*_is_of_version(REVIEW_LEASES, queue), REVIEW_LEASES.c.strategy == queue.strategy.value)
    order = results.VALUE_COLUMNS[ORDERS[queue.strategy]] if queue.strategy in ORDERS else RESULTS.c.image_id.desc()
    return conn.execute(query.order_by(order, REVIEW_LEASES.c.image_id).limit(limit)).scalars().all()


def select(conn: sa.Connection, queue: Queue, *, limit: int) -> Selection:
    """Choose up to `limit` images that have no review and no lease."""
    if limit <= 0:
        return Selection()
    leased = sa.select(REVIEW_LEASES.c.image_id, REVIEW_LEASES.c.draw_probability)
    leases = {row.image_id: row.draw_probability for row in conn.execute(leased.where(_is_leased()))}
    if queue.strategy is enums.Strategy.RANDOM:
        return _draw(conn, queue, leases, limit)
    walk = (
        _disagreements(conn, queue)
        if queue.strategy is enums.Strategy.DISAGREEMENT
        else _in_order(conn, queue, limit + len(leases))
    )
    chosen: dict[int, None] = {}
    for image_id in walk:
        if image_id not in leases:
            chosen[image_id] = None
        if len(chosen) == limit:
            break
    return Selection(list(chosen))


def lease(conn: sa.Connection, queue: Queue, held_ids: Sequence[int], selection: Selection) -> list[int]:
    """Lease the selected images, and extend the leases of those that are held. Return the images that are leased now.

    Images that another person has leased meanwhile are left out, and so are those that were purged.
    """
    conn.execute(sa.delete(REVIEW_LEASES).where(REVIEW_LEASES.c.lease_until < clock.now(-FORGOTTEN_SECONDS)))
    until = {"lease_until": clock.now(LEASE_SECONDS)}
    is_held = (REVIEW_LEASES.c.image_id.in_(held_ids), REVIEW_LEASES.c.leased_by == queue.reviewer)
    extend = sa.update(REVIEW_LEASES).where(*is_held).values(until).returning(REVIEW_LEASES.c.image_id)
    held = set(conn.execute(extend).scalars()) if held_ids else set()
    _add_to_sample(conn, selection)
    leased = _insert_leases(conn, queue, selection, until)
    return [image_id for image_id in (*held_ids, *selection.image_ids) if image_id in held | leased]


def _insert_leases(conn: sa.Connection, queue: Queue, selection: Selection, until: dict[str, clock.Now]) -> set[int]:
    # Locked, so that a purge does not delete them before their leases are there.
    existing = (
        sa.select(IMAGES.c.id).where(IMAGES.c.id.in_(selection.image_ids)).with_for_update(read=True, key_share=True)
    )
    image_ids = conn.execute(existing).scalars().all() if selection.image_ids else []
    if not image_ids:
        return set()
    values = {
        "leased_by": queue.reviewer,
        "model_name": queue.model,
        "model_version": queue.version,
        "strategy": queue.strategy.value,
        "draw_probability": selection.draw_probability,
        **until,
    }
    statement = insert(conn.dialect.name, REVIEW_LEASES).values([{"image_id": id_, **values} for id_ in image_ids])
    statement = statement.on_conflict_do_update(
        index_elements=[REVIEW_LEASES.c.image_id],
        set_={name: statement.excluded[name] for name in values},
        where=sa.or_(REVIEW_LEASES.c.lease_until <= clock.now(), REVIEW_LEASES.c.leased_by == queue.reviewer),
    )
    return set(conn.execute(statement.returning(REVIEW_LEASES.c.image_id)).scalars())


def _add_to_sample(conn: sa.Connection, selection: Selection) -> None:
    if selection.also_drawn_ids:
        values = {"draw_probability": selection.draw_probability}
        for table, condition in ((REVIEWS, IS_CURRENT_REVIEW), (REVIEW_LEASES, sa.true())):
            is_drawn = (table.c.image_id.in_(selection.also_drawn_ids), table.c.draw_probability.is_(None), condition)
            conn.execute(sa.update(table).where(*is_drawn).values(values))


def _in_order(conn: sa.Connection, queue: Queue, limit: int) -> Iterator[int]:
    """Yield the images without a review in the order of the strategy."""
    filters = results.ResultFilter(owner=queue.owner, model=queue.model, version=queue.version, reviewed=False)
    after: results.ResultCursor | None = None
    for _ in range(MAX_ROUNDS):
        rows = results.list_page(conn, filters, limit=limit, after=after, order=ORDERS[queue.strategy])
        yield from (row.image_id for row in rows)
        after = rows.next_cursor
        if after is None:
            return


def _disagreements(conn: sa.Connection, queue: Queue) -> Iterator[int]:
    """Yield the images to which a shadow gave another label, for each shadow the newest first."""
    shadow_results = shadows.SHADOWS
    model_ids = conn.execute(sa.select(MODELS.c.id).where(MODELS.c.name == queue.model).order_by(MODELS.c.id.desc()))
    for model_id in model_ids.scalars().all():
        scanned = sa.select(shadow_results.c.image_id, shadow_results.c.label).where(
            shadow_results.c.model_id == model_id, shadow_results.c.error_code.is_(None)
        )
        scanned_rows = scanned.order_by(shadow_results.c.image_id.desc()).limit(MAX_SCANNED).subquery("scanned")
        query = (
            sa.select(RESULTS.c.image_id)
            .join(scanned_rows, scanned_rows.c.image_id == RESULTS.c.image_id)
            .where(*_is_in_frame(queue), RESULTS.c.label != scanned_rows.c.label)
            .where(~results.has_review())
        )
        yield from conn.execute(query.order_by(RESULTS.c.image_id.desc())).scalars()


def _draw(conn: sa.Connection, queue: Queue, leases: Leases, limit: int) -> Selection:
    """Draw images, each result of the version that was not drawn before with the same probability.

    Ids are drawn between the first and the last of the model, and those that are not of the version are dropped
    (rejection sampling): exact, and fast however many results there are. The share that is not dropped estimates how
    many there are.
    """
    first, last = (_extreme_id(conn, queue.model, newest=newest) for newest in (False, True))
    if first is None or last is None:
        return Selection()
    span = last - first + 1
    if span <= MAX_SCANNED:
        rows = _frame_rows(conn, queue, RESULTS.c.image_id.between(first, last))
        return _first_of(rows, len(rows), leases, limit)
    selection, rows, drawn_ids = Selection(), dict[int, bool](), set[int]()
    for _ in range(MAX_ROUNDS):
        new_ids = {*random.sample(range(first, last + 1), DRAWS_PER_ROUND)} - drawn_ids
        drawn_ids |= new_ids
        rows |= _frame_rows(conn, queue, RESULTS.c.image_id.in_(new_ids))
        selection = _first_of(rows, span * len(rows) / len(drawn_ids), leases, limit)
        if len(selection.image_ids) == limit:
            break
    if selection.image_ids:
        return selection
    # A version with few results among many others: they are probably the newest.
    newest = sa.select(RESULTS.c.image_id).where(RESULTS.c.model_name == queue.model)
    newest = newest.order_by(RESULTS.c.image_id.desc()).limit(MAX_SCANNED)
    rows = _frame_rows(conn, queue, RESULTS.c.image_id.in_(newest))
    return _first_of(rows, len(rows), leases, limit)


def _first_of(rows: Mapping[int, bool], frame_size: float, leases: Leases, limit: int) -> Selection:
    """Select up to `limit` images in random order; those that have a review or a lease are only added to the sample."""
    image_ids: list[int] = []
    also_drawn_ids: list[int] = []
    for image_id in random.sample(list(rows), len(rows)):
        if leases.get(image_id) is not None:
            continue  # it was drawn before, and is before a person
        (also_drawn_ids if rows[image_id] or image_id in leases else image_ids).append(image_id)
        if len(image_ids) == limit:
            break
    return Selection(image_ids, 1 / frame_size if rows else None, also_drawn_ids)


def _frame_rows(conn: sa.Connection, queue: Queue, condition: sa.ColumnElement[bool]) -> dict[int, bool]:
    """Return the images that may be drawn, and whether each has a review."""
    query = sa.select(RESULTS.c.image_id, REVIEWS.c.id.is_not(None)).select_from(RESULTS)
    query = query.outerjoin(REVIEWS, sa.and_(REVIEWS.c.image_id == RESULTS.c.image_id, IS_CURRENT_REVIEW))
    query = query.where(condition, *_is_in_frame(queue), REVIEWS.c.draw_probability.is_(None))
    return {image_id: bool(is_reviewed) for image_id, is_reviewed in conn.execute(query)}


def _is_in_frame(queue: Queue) -> list[sa.ColumnElement[bool]]:
    """Select the results with a label of the version, that the person may see."""
    return [*_is_of_version(RESULTS, queue), RESULTS.c.status == enums.Status.DONE.value, _has_visible_job(queue)]


def _has_visible_job(queue: Queue) -> sa.ColumnElement[bool]:
    """Select the results whose job was not purged, and that the person may see."""
    # A subquery and not EXISTS, for which PostgreSQL would hash all jobs.
    is_visible = (JOBS.c.purged_at.is_(None), *is_job_of(queue.owner))
    job_id = sa.select(JOBS.c.id).where(JOBS.c.id == RESULTS.c.job_id, *is_visible).scalar_subquery()
    has_job: sa.ColumnElement[bool] = job_id.is_not(None)
    return has_job


def _is_of_version(table: sa.Table, queue: Queue) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.model_name == queue.model, table.c.model_version == queue.version


def _is_leased() -> sa.ColumnElement[bool]:
    is_leased: sa.ColumnElement[bool] = REVIEW_LEASES.c.lease_until > clock.now()
    return is_leased


def _extreme_id(conn: sa.Connection, model: str, *, newest: bool) -> int | None:
    order = RESULTS.c.image_id.desc() if newest else RESULTS.c.image_id
    query = sa.select(RESULTS.c.image_id).where(RESULTS.c.model_name == model).order_by(order).limit(1)
    return conn.execute(query).scalar()
