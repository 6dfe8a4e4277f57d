"""Sharded counters: incremented in the transaction of what they count, and read without counting rows."""

import enum
import functools
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from core.db import prepared
from core.db.expressions import COUNTERS, insert

SHARDS = 8  # rows per counter, so that transactions seldom wait for each other
BATCH_SIZE_BUCKETS = tuple(float(2**n) for n in range(13))
"""The upper bounds of the histogram of batch sizes."""

CounterKey = tuple[str, ...]
"""The name of a counter, then the values of its labels."""


class FlushReason(enum.StrEnum):
    """Why a batch was processed with the size it had."""

    FULL = "full"  # the batch has its maximum size
    LINGER = "linger"  # another batch was on the device; it waited for more images, and none came
    DRAIN = "drain"  # no other batch was on the device: it went at once
    RETRY = "retry"  # its images were lost before, and are processed in small batches


def increment(conn: sa.Connection, counts: Mapping[CounterKey, float]) -> None:
    """Add to counters; call it late in a transaction, because others wait for these rows until its end."""
    if not counts:
        return
    # Always the same for a connection, so that two transactions seldom deadlock.
    shard = conn.info.setdefault("sortbelt_shard", random.randrange(SHARDS))  # noqa: S311 (not a secret)
    rows = [
        {"name": name, "labels": json.dumps(labels), "shard": shard, "value": value}
        for (name, *labels), value in sorted(counts.items())
    ]
    _upsert(conn.dialect.name).execute_many(conn, rows)


@functools.cache
def _upsert(dialect: str) -> prepared.Prepared:
    statement = insert(dialect, COUNTERS)
    upsert = statement.on_conflict_do_update(
        index_elements=[COUNTERS.c.name, COUNTERS.c.labels, COUNTERS.c.shard],
        set_={"value": COUNTERS.c.value + statement.excluded.value},
    )
    return prepared.Prepared(upsert, sets=("name", "labels", "shard", "value"))


def count_results(conn: sa.Connection, results: Iterable[Mapping[str, Any]], count: int = 1) -> None:
    """Count result rows that are written in this transaction; each stands for `count` of them."""
    counts = Counter[CounterKey]()
    for row in results:
        cached = str(bool(row["cached"])).lower()
        counts["images", row["model_name"], row["status"], row["error_code"] or "", cached] += count
    increment(conn, counts)


def count_batch(conn: sa.Connection, reason: FlushReason, images: int) -> None:
    """Count a processed batch."""
    bucket = next(size for size in BATCH_SIZE_BUCKETS if size >= images)
    increment(conn, {("batches", reason.value, f"{bucket:g}"): 1, ("batch_images", reason.value): images})


def totals(conn: sa.Connection) -> dict[CounterKey, float]:
    """Return the total of every counter."""
    query = sa.select(COUNTERS.c.name, COUNTERS.c.labels, sa.func.sum(COUNTERS.c.value))
    rows = conn.execute(query.group_by(COUNTERS.c.name, COUNTERS.c.labels)).all()
    return {(name, *json.loads(labels)): value for name, labels, value in rows}
