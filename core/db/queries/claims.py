"""Claims: how a worker claims images, extends their leases, finishes or releases them."""

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from core import enums
from core.db import clock, prepared, tables
from core.db.expressions import IMAGES, IS_QUEUED, IS_RUNNING, JOBS, RESULTS, any_of, is_owned_by
from core.db.queries import counters, jobs

CLAIM_COLUMNS = [IMAGES.c[name] for name in ("id", "job_id", "name", "sha256", "attempt", "worker", "claimed_at")]
CLAIM_COLUMNS += [IMAGES.c[name] for name in ("bytes", "source", "location", "api_key_id", "custom_id")]
# Built once, like all statements of a batch: building one takes longer than running it.
UPDATE_IMAGES_ENDED = prepared.Prepared(
    sa.update(IMAGES)
    .where(any_of(IMAGES.c.id, "ids"))
    .where(IMAGES.c.attempt == sa.bindparam("held_attempt"), IMAGES.c.worker == sa.bindparam("held_by"), IS_RUNNING)
    .values(status=sa.bindparam("final_status"), lease_until=None)
    .returning(IMAGES.c.id, clock.now()),
    (IMAGES.c.id, clock.now()),
)
OWNED_ORDER = (IMAGES.c.api_key_id, IMAGES.c.priority, IMAGES.c.id)
REQUEUED: dict[str, Any] = {"status": enums.Status.QUEUED, "worker": None, "lease_until": None}
RESULT_NAMES = [column.name for column in RESULTS.columns]
INSERT_RESULTS = prepared.Prepared(sa.insert(RESULTS), sets=RESULT_NAMES)
UPDATE_JOB_COUNTS = prepared.Prepared(
    sa.update(JOBS)
    .where(JOBS.c.id == sa.bindparam("job"))
    .values(
        done=JOBS.c.done + sa.bindparam("more_done"),
        failed=JOBS.c.failed + sa.bindparam("more_failed"),
        started_at=sa.func.coalesce(JOBS.c.started_at, sa.bindparam("started", type_=tables.Timestamp())),
    )
)


@dataclass(frozen=True)
class Claim:
    """One image that a worker holds until its lease ends; attempt and worker together are the fencing token."""

    image_id: int
    job_id: str
    name: str
    sha256: str
    attempt: int
    worker: str
    claimed_at: datetime
    bytes: int = 0
    source: str | None = None
    """The name of the source that holds the bytes; None if they are in the blob store."""
    location: str | None = None
    api_key_id: str | None = None
    custom_id: str | None = None
    was_lost: bool = field(default=False, kw_only=True)
    """It was claimed before and lost. This attempt counts from `begin_attempt` on: a worker that dies before was not
    killed by the image."""


@dataclass(frozen=True)
class Outcome:
    """The result of a claimed image: a label, or an error code."""

    claim: Claim
    label: str | None = None
    confidence: float | None = None
    scores: dict[str, float] | None = None
    familiarity: float | None = None
    error_code: str | None = None
    error_detail: str | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def status(self) -> enums.Status:
        """Whether the image is done or failed: the latter if there is an error code."""
        return enums.Status.DONE if self.error_code is None else enums.Status.FAILED


@dataclass(frozen=True)
class ModelRef:
    """The model that made a result; version and digest are None for an image that no model has seen."""

    name: str
    version: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Completion:
    """The rows of `results` that `finish` has written, and the jobs that have finished by them."""

    results: Sequence[Mapping[str, Any]] = ()
    ended_jobs: Sequence[jobs.EndedJob] = ()


def claim(
    conn: sa.Connection,
    worker: str,
    model: str,
    owner: str | None,
    *,
    limit: int,
    max_digests: int,
    next_attempts: int,
    lease_seconds: float,
    bulk_first: bool = False,
    only_new: bool = False,
    sources: Collection[str] = (),
) -> list[Claim]:
    """Claim up to `limit` queued images of a model and a key; finish or release each before its lease ends.

    Images are claimed by priority, then age; with `bulk_first` bulk images come first, so that neither priority starves
    the other. At most `max_digests` of them are different. Images that were claimed before and lost come in ever
    smaller batches, the third time alone: if one of them kills its worker, its neighbours survive. A worker with other
    images in hand claims `only_new` ones, and calls `begin_attempt` when it starts to process a retry. Images in other
    than these `sources` are left to other workers. `next_attempts` is how often the first image was claimed before, as
    the caller has just read: it saves a statement.
    """
    options: dict[str, Any] = {"only_new": only_new, "sources": tuple(sources), "has_owner": owner is not None}
    parameters = {"requested_model": model} | ({} if owner is None else {"requested_owner": owner})
    for bulk in [True, False] if bulk_first else [False]:
        expected = 0 if only_new else None if bulk else next_attempts
        for attempts in _iter_attempts(conn, expected, parameters, bulk=bulk, **options):
            batch_size = suspect_batch_size(limit, attempts)
            selection = {"previous_attempts": attempts, "batch_size": batch_size}
            selection["max_digests"] = min(batch_size, max_digests)
            values = {"next_attempt": max(1, attempts), "claimed_by": worker, "lease": lease_seconds}
            rows = _claim_statement(bulk=bulk, **options).execute(conn, parameters | selection | values)
            if rows:
                return sorted([Claim(*row, was_lost=attempts > 0) for row in rows], key=lambda claim: claim.image_id)
    return []


def _iter_attempts(
    conn: sa.Connection, expected: int | None, parameters: Mapping[str, Any], *, only_new: bool, **options: Any
) -> Iterator[int]:
    """Yield how often the next image was claimed before: as expected, then, if that claimed nothing, as it is now."""
    if expected is not None:
        yield expected
    if not only_new:
        attempts = conn.execute(_next_attempt_query(only_new=only_new, **options), parameters).scalar()
        yield from [] if attempts in (None, expected) else [attempts]


def has_queued(conn: sa.Connection, models: Iterable[str], sources: Collection[str] = ()) -> bool:
    """Return whether any image of these models is queued whose bytes are uploaded or in one of these sources."""
    conditions = (IS_QUEUED, IMAGES.c.model_name.in_(list(models)), is_readable(sources))
    return conn.execute(sa.select(IMAGES.c.id).where(*conditions).limit(1)).scalar() is not None


def is_readable(sources: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the condition that the bytes of an image are uploaded, or in one of these sources."""
    is_uploaded = IMAGES.c.source.is_(None)
    return sa.or_(is_uploaded, *(IMAGES.c.source == source for source in sources))


@functools.cache
def _next_attempt_query(**options: Any) -> sa.Select[Any]:
    """Select how often the next image was claimed before."""
    first = sa.select(IMAGES.c.attempt).where(*_queued_conditions(**options)).order_by(*OWNED_ORDER).limit(1)
    return first.with_for_update(skip_locked=True)


@functools.cache
def _claim_statement(**options: Any) -> prepared.Prepared:
    conditions = (*_queued_conditions(**options), IMAGES.c.attempt == sa.bindparam("previous_attempts"))
    columns = (IMAGES.c.id, IMAGES.c.priority, IMAGES.c.sha256)
    candidates = sa.select(*columns).where(*conditions).order_by(*OWNED_ORDER)
    candidates = candidates.limit(sa.bindparam("batch_size", type_=sa.Integer()))
    locked = candidates.with_for_update(skip_locked=True).cte("locked")
    values = {
        "status": enums.Status.RUNNING,
        "attempt": sa.bindparam("next_attempt"),
        "worker": sa.bindparam("claimed_by"),
        "claimed_at": clock.now(),
        "lease_until": clock.now_plus_parameter("lease"),
    }
    update = sa.update(IMAGES).where(IMAGES.c.id.in_(_first_digests(locked))).values(values)
    return prepared.Prepared(update.returning(*CLAIM_COLUMNS), CLAIM_COLUMNS)


def _first_digests(locked: sa.CTE) -> sa.Select[Any]:
    """Select the first rows up to the maximum of different digests: what is the same is decoded once."""
    order = (locked.c.priority, locked.c.id)
    occurrence = sa.func.row_number().over(partition_by=locked.c.sha256, order_by=order)
    marked = sa.select(*locked.c, sa.case((occurrence == 1, 1), else_=0).label("is_first")).subquery()
    digests = sa.func.sum(marked.c.is_first).over(order_by=(marked.c.priority, marked.c.id)).label("digests")
    counted = sa.select(marked.c.id, digests).subquery()
    return sa.select(counted.c.id).where(counted.c.digests <= sa.bindparam("max_digests", type_=sa.Integer()))


def _queued_conditions(
    *, bulk: bool, only_new: bool, sources: Collection[str], has_owner: bool
) -> list[sa.ColumnElement[bool]]:
    conditions = [IS_QUEUED, IMAGES.c.model_name == sa.bindparam("requested_model"), is_readable(sources)]
    conditions += [IMAGES.c.attempt == 0] if only_new else []
    conditions += [is_owned_by(sa.bindparam("requested_owner")) if has_owner else IMAGES.c.api_key_id.is_(None)]
    return conditions + ([IMAGES.c.priority == enums.Priority.BULK.value] if bulk else [])


def suspect_batch_size(limit: int, attempts: int) -> int:
    """Return how many images claimed `attempts` times before may share a batch: all, an eighth, one."""
    return {0: limit, 1: max(1, limit // 8)}.get(attempts, 1)


def begin_attempt(conn: sa.Connection, claims: Sequence[Claim]) -> list[Claim]:
    """Count the attempt of retried images: from now on, they may be what kills the worker.

    Returns the claims with their new fencing token, without those whose lease was lost meanwhile.
    """
    started = sa.update(IMAGES).where(_is_held(claims)).values(attempt=IMAGES.c.attempt + 1).returning(*CLAIM_COLUMNS)
    return [Claim(*row) for row in conn.execute(started)]


def extend_lease(conn: sa.Connection, claims: Sequence[Claim], *, lease_seconds: float) -> int:
    """Extend the leases of claims. Return how many of them are still held."""
    if not claims:
        return 0
    return conn.execute(sa.update(IMAGES).where(_is_held(claims)).values(lease_until=clock.now(lease_seconds))).rowcount


def finish(
    conn: sa.Connection, outcomes: Sequence[Outcome], model: ModelRef, environment_id: int | None = None
) -> Completion:
    """Write the outcomes of claimed images: status, result and counters in one transaction.

    A claim whose lease was lost meanwhile (the image has another attempt or worker) writes nothing.

    Args:
        conn: a connection in a transaction that may write.
        outcomes: one for each image.
        model: the model that made the results.
        environment_id: the environment they were made in, from `environments.get_or_create_id`.
    """
    jobs.lock(conn, {outcome.claim.job_id for outcome in outcomes})
    ended = [pair for group in _group_by_fence(outcomes) for pair in _end_images(conn, group)]
    if not ended:
        return Completion()
    rows = [_result_row(outcome, model, environment_id, finished_at) for outcome, finished_at in ended]
    INSERT_RESULTS.execute_many(conn, rows)
    finished_jobs = _update_job_counts(conn, [outcome for outcome, _ in ended])
    counters.count_results(conn, rows)
    return Completion(rows, finished_jobs)


def release(conn: sa.Connection, claims: Sequence[Claim]) -> int:
    """Requeue claimed images at once as if they had never been claimed; a counted attempt is taken back."""
    jobs.lock(conn, {claim.job_id for claim in claims})
    values = REQUEUED | {"attempt": IMAGES.c.attempt - _counted_attempt(claims)}
    return requeue(conn, sa.update(IMAGES).where(_is_held(claims)).values(values))


def abandon(conn: sa.Connection, claims: Sequence[Claim]) -> int:
    """End the leases of images that a worker failed to process: the reaper then treats them as lost."""
    new_attempt = IMAGES.c.attempt + 1 - _counted_attempt(claims)
    return conn.execute(
        sa.update(IMAGES).where(_is_held(claims)).values(lease_until=clock.now(), attempt=new_attempt)
    ).rowcount


def _counted_attempt(claims: Sequence[Claim]) -> sa.ColumnElement[int]:
    """Return 1 for images whose attempt counts already, 0 for retries that have not begun."""
    retry_ids = [claim.image_id for claim in claims if claim.was_lost]
    return sa.case((IMAGES.c.id.in_(retry_ids), 0), else_=1)


def requeue(conn: sa.Connection, update: sa.Update) -> int:
    """Run an update that queues images; cancel those of jobs that were cancelled meanwhile."""
    job_ids = conn.execute(update.returning(IMAGES.c.job_id)).scalars().all()
    jobs.cancel_queued(conn, set(job_ids))
    return len(job_ids)


def _group_by_fence(outcomes: Iterable[Outcome]) -> Iterable[list[Outcome]]:
    """Group outcomes by what one statement can end: one status, one fencing token."""
    groups: dict[Any, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.status, outcome.claim.attempt, outcome.claim.worker), []).append(outcome)
    return groups.values()


def _end_images(conn: sa.Connection, outcomes: Sequence[Outcome]) -> Iterable[tuple[Outcome, datetime]]:
    """End images of one status and fencing token. Return the outcomes whose lease was not lost meanwhile, and when."""
    first = outcomes[0]
    ids = [outcome.claim.image_id for outcome in outcomes]
    fence = {"ids": ids, "held_attempt": first.claim.attempt, "held_by": first.claim.worker}
    rows = UPDATE_IMAGES_ENDED.execute(conn, {**fence, "final_status": first.status})
    ended: dict[int, datetime] = {row[0]: row[1] for row in rows}
    return [(outcome, ended[outcome.claim.image_id]) for outcome in outcomes if outcome.claim.image_id in ended]


def _is_held(claims: Sequence[Claim]) -> sa.ColumnElement[bool]:
    # The attempt alone is not enough: the next holder of a released image has the same.
    by_fence: dict[tuple[int, str], list[int]] = {}
    for claim in claims:
        by_fence.setdefault((claim.attempt, claim.worker), []).append(claim.image_id)
    fences = [
        sa.and_(IMAGES.c.id.in_(ids), IMAGES.c.attempt == attempt, IMAGES.c.worker == worker)
        for (attempt, worker), ids in by_fence.items()
    ]
    return sa.and_(sa.or_(sa.false(), *fences), IS_RUNNING)


def _update_job_counts(conn: sa.Connection, outcomes: Sequence[Outcome]) -> Sequence[jobs.EndedJob]:
    """Add the outcomes to the counters of their jobs, one update per job; return the jobs that have finished."""
    by_job: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_job.setdefault(outcome.claim.job_id, []).append(outcome)
    job_ids = sorted(by_job)
    UPDATE_JOB_COUNTS.execute_many(conn, [_count_params(id_, by_job[id_]) for id_ in job_ids])
    return jobs.end_if_complete(conn, job_ids)


def _count_params(job_id: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = Counter(outcome.status for outcome in outcomes)
    return {
        "job": job_id,
        "more_done": counts[enums.Status.DONE],
        "more_failed": counts[enums.Status.FAILED],
        "started": min(outcome.claim.claimed_at for outcome in outcomes),
    }


def _result_row(outcome: Outcome, model: ModelRef, environment_id: int | None, finished_at: datetime) -> dict[str, Any]:
    return {
        "image_id": outcome.claim.image_id,
        "job_id": outcome.claim.job_id,
        "status": outcome.status.value,
        "label": outcome.label,
        "confidence": outcome.confidence,
        "scores": outcome.scores,
        "familiarity": outcome.familiarity,
        "error_code": outcome.error_code,
        "error_detail": outcome.error_detail,
        "model_name": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
        "cached": False,
        "timings": outcome.timings,
        "environment_id": environment_id,
        "finished_at": finished_at,
    }
