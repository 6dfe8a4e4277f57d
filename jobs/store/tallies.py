"""Tallies: counts that only ever grow, moved in the very transaction of what they count, and read without counting."""

import enum
import functools
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from jobs.store.sql import TALLIES, insert

SHARDS = 8  # rows of one count, so that transactions seldom wait for each other
SIZES = tuple(float(2**n) for n in range(13))
"""The upper bounds by which batches are told apart."""

Key = tuple[str, ...]
"""What is counted, and then the values of its labels."""


class Release(enum.StrEnum):
    """Why a batch was not made larger before it went."""

    FULL = "full"  # it has as many images as a batch may have
    LINGER = "linger"  # others were at work; it waited for more, and nothing came
    DRAIN = "drain"  # nothing else was at work: it took what there was and went at once
    RETRY = "retry"  # its images were lost before, and go in small company


def add(c: sa.Connection, counts: Mapping[Key, float]) -> None:
    """Add to counts; to be done late in a transaction, for until its end others may wait for these rows."""
    if not counts:
        return
    # Of one connection always the same, so that two transactions seldom wait for each other crosswise.
    shard = c.info.setdefault("sortbelt_shard", random.randrange(SHARDS))  # noqa: S311 (not a secret)
    rows = [
        {"name": name, "labels": json.dumps(labels), "shard": shard, "value": value}
        for (name, *labels), value in sorted(counts.items())
    ]
    c.execute(_more(c.dialect.name), rows)


@functools.cache
def _more(dialect: str) -> Any:
    """The upsert, which is kept: to make it anew takes longer than to run it."""
    new = insert(dialect, TALLIES)
    return new.on_conflict_do_update(
        index_elements=[TALLIES.c.name, TALLIES.c.labels, TALLIES.c.shard],
        set_={"value": TALLIES.c.value + new.excluded.value},
    )


def add_results(c: sa.Connection, results: Iterable[Mapping[str, Any]], count: int = 1) -> None:
    """Count rows of results that are written in this transaction; each stands for `count` of them."""
    ended = Counter[Key]()
    for row in results:
        cached = str(bool(row["cached"])).lower()
        ended["images", row["model"], row["status"], row["error_code"] or "", cached] += count
    add(c, ended)


def add_batch(c: sa.Connection, reason: Release, images: int) -> None:
    """Count a batch that was worked off."""
    size = next(size for size in SIZES if size >= images)
    add(c, {("batches", reason.value, f"{size:g}"): 1, ("batch_images", reason.value): images})


def totals(c: sa.Connection) -> dict[Key, float]:
    """Every count."""
    query = sa.select(TALLIES.c.name, TALLIES.c.labels, sa.func.sum(TALLIES.c.value))
    rows = c.execute(query.group_by(TALLIES.c.name, TALLIES.c.labels)).all()
    return {(name, *json.loads(labels)): value for name, labels, value in rows}
