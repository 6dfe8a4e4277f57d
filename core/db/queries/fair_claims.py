"""Fair claims: the keys that have queued images take turns, so that none waits for the images of another."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from core import enums
from core.db import prepared
from core.db.expressions import IMAGES, IS_QUEUED, distinct_values, is_owned_by
from core.db.queries import claims as claim_queries

MAX_KEYS = 1000  # with queued images of one model, of which one claim takes notice


@dataclass(frozen=True)
class QueuedKey:
    """A key with queued images of a model that a worker may claim."""

    id: str | None
    """None: of images that a program of an older release has inserted."""
    is_interactive: bool
    """Whether any of these images is interactive."""
    next_attempts: int = 0
    """How often the first of these images was claimed before."""


@dataclass(frozen=True)
class Turn:
    """How many images of a key a batch may have: the weight of its share, and how many different ones at most."""

    key: str | None
    weight: float
    max_digests: int


@dataclass(frozen=True)
class FairBatch:
    """The claimed images of one model, and whether more could have been claimed."""

    model: str = ""
    claims: Sequence[claim_queries.Claim] = ()
    is_full: bool = False


def claim(
    conn: sa.Connection,
    worker: str,
    bulk_first_by_model: Mapping[str, bool],
    take_turns: Callable[[Sequence[QueuedKey], bool], Sequence[Turn]],
    *,
    limits: Mapping[str, int],
    lease_seconds: float,
    only_new: bool = False,
    sources: Collection[str] = (),
) -> FairBatch:
    """Claim images of the first of these models that has any, of several keys in turn.

    If the keys whose turn it is yield nothing, because other workers hold their images, the others have a turn.

    Args:
        conn: a connection in a transaction that may write.
        worker: the worker's id.
        bulk_first_by_model: for each model, in the order in which they are tried, whether bulk images come first.
        take_turns: chooses the turns among the keys with queued images, given whether bulk images come first.
        limits: how many images of each model may be claimed.
        lease_seconds: how long the claims are valid.
        only_new: leave out images that were claimed before and lost. Without it, such images come alone.
        sources: the sources whose images may be claimed.
    """
    for model, bulk_first in bulk_first_by_model.items():
        options: dict[str, Any] = {"lease_seconds": lease_seconds, "bulk_first": bulk_first, "sources": sources}
        keys = {key.id: key for key in queued_keys(conn, model, only_new=only_new, sources=sources)}
        while keys and (turns := take_turns(list(keys.values()), bulk_first)):
            tried = {turn.key: keys.pop(turn.key) for turn in turns}
            batch = _claim_turns(conn, worker, model, turns, tried, limits[model], only_new=only_new, **options)
            if batch.claims:
                return batch
    return FairBatch()


def _claim_turns(
    conn: sa.Connection,
    worker: str,
    model: str,
    turns: Sequence[Turn],
    keys: Mapping[str | None, QueuedKey],
    limit: int,
    *,
    only_new: bool,
    **options: Any,
) -> FairBatch:
    """Claim for each turn its share of what remains; a key that was cut short by that gets the rest of the batch."""
    claims: list[claim_queries.Claim] = []
    cut_turns: list[Turn] = []
    weight = sum(turn.weight for turn in turns)
    is_full = False
    for turn in turns:
        share = max(1, round((limit - len(claims)) * turn.weight / weight))
        weight -= turn.weight
        if len(claims) >= limit:
            return FairBatch(model, claims, is_full=True)
        options["next_attempts"] = keys[turn.key].next_attempts
        claimed = _claim_turn(conn, worker, model, turn, share, only_new=only_new or bool(claims), **options)
        if claimed and claimed[0].was_lost:
            return FairBatch(model, claimed)
        claims += claimed
        is_slow = len({claim.sha256 for claim in claimed}) >= turn.max_digests
        is_full = is_full or is_slow
        cut_turns += [turn] if len(claimed) == share and not is_slow else []
    for turn in cut_turns:
        if len(claims) < limit:
            claims += _claim_turn(conn, worker, model, turn, limit - len(claims), only_new=True, **options)
    return FairBatch(model, claims, is_full=is_full or len(claims) >= limit)


def _claim_turn(
    conn: sa.Connection, worker: str, model: str, turn: Turn, limit: int, **options: Any
) -> list[claim_queries.Claim]:
    return claim_queries.claim(conn, worker, model, turn.key, limit=limit, max_digests=turn.max_digests, **options)


def queued_keys(
    conn: sa.Connection, model: str, *, only_new: bool = False, sources: Collection[str] = ()
) -> list[QueuedKey]:
    """Return the keys that have images to claim, by the conditions of `claims.claim`.

    An index probe for each key, however many images it has; and a row for each image before the first that may be
    claimed.
    """
    rows = _queued_keys_query(only_new, tuple(sources)).execute(conn, {"requested_model": model})
    return [QueuedKey(key, priority == enums.Priority.INTERACTIVE, attempts) for key, priority, attempts in rows]


@functools.cache
def _queued_keys_query(only_new: bool, sources: Collection[str]) -> prepared.Prepared:
    """Select each key with its first image."""
    is_queued = (IS_QUEUED, IMAGES.c.model_name == sa.bindparam("requested_model"))
    keys = distinct_values(IMAGES.c.api_key_id, *is_queued)
    is_claimable = (*is_queued, claim_queries.is_readable(sources), *([IMAGES.c.attempt == 0] if only_new else []))
    first = sa.select(IMAGES.c.id).where(*is_claimable).order_by(*claim_queries.OWNED_ORDER).limit(1)
    first_of_key = first.where(is_owned_by(keys.c.value)).correlate(keys).scalar_subquery()
    first_without_key = first.where(IMAGES.c.api_key_id.is_(None)).scalar_subquery()
    image = IMAGES.alias("first_image")
    columns = (image.c.api_key_id, image.c.priority, image.c.attempt)
    with_key = sa.select(*columns).select_from(keys.join(image, image.c.id == first_of_key)).limit(MAX_KEYS).subquery()
    both = sa.union_all(sa.select(with_key), sa.select(*columns).where(image.c.id == first_without_key))
    return prepared.Prepared(both, columns)
