"""Expired leases: the images of lost workers are queued again, or fail after their last attempt."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from core.db import clock
from core.db.expressions import IMAGES, IS_RUNNING
from core.db.queries import claims as claim_queries
from core.db.queries import jobs


def end(conn: sa.Connection, workers: Collection[str]) -> int:
    """End the leases of workers that are dead: the reaper then treats their images as lost. Return how many."""
    is_theirs = (IS_RUNNING, IMAGES.c.worker.in_(workers), IMAGES.c.lease_until > clock.now())
    return conn.execute(sa.update(IMAGES).where(*is_theirs).values(lease_until=clock.now())).rowcount


def requeue(conn: sa.Connection, *, max_attempts: int) -> tuple[int, int]:
    """Requeue images whose lease has ended, or fail them at the maximum of attempts. Return the number of each.

    Safe when several workers do it at once: each image changes its status under its row lock, once.
    """
    is_expired = (IS_RUNNING, IMAGES.c.lease_until <= clock.now())
    # The jobs first, as everywhere: no deadlocks.
    jobs.lock(conn, conn.execute(sa.select(IMAGES.c.job_id).where(*is_expired).limit(1000).distinct()).scalars().all())
    expired = (
        sa.select(IMAGES.c.id)
        .where(*is_expired)
        .order_by(IMAGES.c.job_id)
        .limit(1000)
        .with_for_update(skip_locked=True)
    )
    update = sa.update(IMAGES).where(IMAGES.c.id.in_(expired.where(IMAGES.c.attempt < max_attempts)), IS_RUNNING)
    queued = claim_queries.requeue(conn, update.values(claim_queries.REQUEUED))
    return queued, _fail_exhausted(conn, expired.where(IMAGES.c.attempt >= max_attempts))


def _fail_exhausted(conn: sa.Connection, exhausted: sa.Select[Any]) -> int:
    """Fail these images as `worker_lost`. The statements grow with the models and workers, not with the images."""
    rows = conn.execute(
        sa.select(*claim_queries.CLAIM_COLUMNS, IMAGES.c.model_name).where(IMAGES.c.id.in_(exhausted))
    ).all()
    outcomes_by_model: dict[str, list[claim_queries.Outcome]] = {}
    for *columns, model in rows:
        claim = claim_queries.Claim(*columns)
        detail = f"In each of {claim.attempt} attempts, the worker was lost or failed while it had this image."
        outcome = claim_queries.Outcome(claim, error_code="worker_lost", error_detail=detail)
        outcomes_by_model.setdefault(model, []).append(outcome)
    for model, outcomes in outcomes_by_model.items():
        claim_queries.finish(conn, outcomes, claim_queries.ModelRef(model))
    return len(rows)
