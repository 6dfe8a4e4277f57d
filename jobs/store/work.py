"""Work: how a worker claims images, keeps them, finishes them, hands them back, and how lost ones are found."""

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import jobs, tallies
from jobs.store.sql import IMAGES, JOBS, QUEUED, RESULTS, RUNNING

CLAIMED = [IMAGES.c[name] for name in ("id", "job_id", "name", "sha256", "attempt", "worker", "claimed_at")]
CLAIMED += [IMAGES.c[name] for name in ("bytes", "source", "location")]
# Made once, as all that is asked for each batch: to make a statement takes longer than to run it.
END = (
    sa.update(IMAGES)
    .where(IMAGES.c.id.in_(sa.bindparam("ids", expanding=True)))
    .where(IMAGES.c.attempt == sa.bindparam("mine"), IMAGES.c.worker == sa.bindparam("me"), RUNNING)
    .values(status=sa.bindparam("end"), lease_until=None)
    .returning(IMAGES.c.id)
)
WRITE = sa.insert(RESULTS).values(finished_at=clock.now())
COUNT = (
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
    """One image that a worker holds until its lease ends; attempt and worker together are the fence."""

    image_id: int
    job_id: str
    name: str
    sha256: str
    attempt: int
    worker: str
    claimed_at: datetime
    bytes: int = 0
    source: str | None = None
    """The name of the source in which the bytes lie; None if they lie among the blobs."""
    location: str | None = None
    again: bool = field(default=False, kw_only=True)
    """It was claimed before and lost. Only `start` counts this attempt: who dies before has not died of the picture."""


@dataclass(frozen=True)
class Fate:
    """What has become of a claimed image: a label, or an error code."""

    claim: Claim
    label: str | None = None
    confidence: float | None = None
    scores: dict[str, float] | None = None
    error_code: str | None = None
    error_detail: str | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def status(self) -> tables.Status:
        """Done, or failed."""
        return tables.Status.DONE if self.error_code is None else tables.Status.FAILED


@dataclass(frozen=True)
class Maker:
    """The model that makes results; version and digest are unknown where none came to see the picture."""

    name: str
    version: str | None = None
    digest: str | None = None


def claim(
    c: sa.Connection,
    worker: str,
    model: str,
    *,
    limit: int,
    lease_seconds: float,
    bulk_first: bool = False,
    only_new: bool = False,
    sources: Collection[str] = (),
) -> list[Claim]:
    """Take up to `limit` queued images of a model; the taker must finish or release each before its lease ends.

    Images are served by priority, then age; with `bulk_first` what is bulk goes before, so that neither starves the
    other. Images that were claimed before and did not end are taken in ever smaller company, the third time alone: if
    one of them kills its worker, its neighbours live on. Who has others in hand takes `only_new` ones; who takes such
    an image again must `start` it when its turn has come. What lies in another than these `sources` is left to others.
    """
    kind = {"only_new": only_new, "sources": tuple(sources)}
    for bulk in [True, False] if bulk_first else [False]:
        attempts = c.execute(_first(bulk=bulk, **kind), {"of": model}).scalar()
        if attempts is not None:
            some = {"of": model, "before": attempts, "company": company(limit, attempts)}
            values = {"next_attempt": max(1, attempts), "taker": worker, "lease": lease_seconds}
            taken = c.execute(_take(bulk=bulk, **kind), some | values)
            return sorted([Claim(*row, again=attempts > 0) for row in taken], key=lambda claim: claim.image_id)
    return []


def claim_one_of(
    c: sa.Connection,
    worker: str,
    turns: Mapping[str, bool],
    *,
    limits: Mapping[str, int],
    lease_seconds: float,
    only_new: bool = False,
    sources: Collection[str] = (),
) -> tuple[str, list[Claim]]:
    """Claim images of the first of these models that has some; its name and the images, or no images.

    `turns` tells for each model, in the order in which they are asked, whether it is its bulk's turn to go first, and
    `limits` how many images may be claimed of it.
    """
    for model, bulk_first in turns.items():
        claims = claim(
            c,
            worker,
            model,
            limit=limits[model],
            lease_seconds=lease_seconds,
            bulk_first=bulk_first,
            only_new=only_new,
            sources=sources,
        )
        if claims:
            return model, claims
    return "", []


def waits(c: sa.Connection, models: Iterable[str], sources: Collection[str] = ()) -> bool:
    """Whether any image waits for a worker of these models that can read these sources."""
    some = (QUEUED, IMAGES.c.model.in_(list(models)), _readable(sources))
    return c.execute(sa.select(IMAGES.c.id).where(*some).limit(1)).scalar() is not None


def _readable(sources: Collection[str]) -> sa.ColumnElement[bool]:
    sent = IMAGES.c.source.is_(None)
    return sa.or_(sent, IMAGES.c.source.in_(sources)) if sources else sent


@functools.cache
def _first(**kind: Any) -> sa.Select[Any]:
    """How often what is next was claimed before."""
    first = sa.select(IMAGES.c.attempt).where(*_waiting(**kind)).order_by(IMAGES.c.priority, IMAGES.c.id).limit(1)
    return first.with_for_update(skip_locked=True)


@functools.cache
def _take(**kind: Any) -> Any:
    some = (*_waiting(**kind), IMAGES.c.attempt == sa.bindparam("before"))
    in_order = sa.select(IMAGES.c.id).where(*some).order_by(IMAGES.c.priority, IMAGES.c.id)
    picked = in_order.limit(sa.bindparam("company", type_=sa.Integer()))
    locked = picked.with_for_update(skip_locked=True).cte("picked")
    values = {
        "status": tables.Status.RUNNING,
        "attempt": sa.bindparam("next_attempt"),
        "worker": sa.bindparam("taker"),
        "claimed_at": clock.now(),
        "lease_until": clock.given("lease"),
    }
    return sa.update(IMAGES).where(IMAGES.c.id.in_(sa.select(locked.c.id))).values(values).returning(*CLAIMED)


def _waiting(*, bulk: bool, only_new: bool, sources: Collection[str]) -> list[sa.ColumnElement[bool]]:
    some = [QUEUED, IMAGES.c.model == sa.bindparam("of"), _readable(sources)]
    some += [IMAGES.c.attempt == 0] if only_new else []
    return some + ([IMAGES.c.priority == tables.Priority.BULK.value] if bulk else [])


def company(limit: int, attempts: int) -> int:
    """How many images may share a batch that have been claimed `attempts` times before: all, an eighth, one."""
    return {0: limit, 1: max(1, limit // 8)}.get(attempts, 1)


def start(c: sa.Connection, claims: Sequence[Claim]) -> list[Claim]:
    """Count the attempt of images that were taken again: now is the time that they may take their worker down.

    Returns them with their new fence, without those whose lease was lost meanwhile.
    """
    started = sa.update(IMAGES).where(_held(claims)).values(attempt=IMAGES.c.attempt + 1).returning(*CLAIMED)
    return [Claim(*row) for row in c.execute(started)]


def renew(c: sa.Connection, claims: Sequence[Claim], *, lease_seconds: float) -> int:
    """Prolong the leases of what a worker has in hand. Returns how many of them are still its own."""
    if not claims:
        return 0
    return c.execute(sa.update(IMAGES).where(_held(claims)).values(lease_until=clock.now(lease_seconds))).rowcount


def finish(c: sa.Connection, fates: Sequence[Fate], maker: Maker, environment: int | None = None) -> int:
    """Write what has become of claimed images: status, result and counters in one transaction.

    `environment` is the number of the one in which it was found out, as `environments.enter` gives it.
    A claim whose lease was lost meanwhile (its attempt is no longer the image's) writes nothing.
    Returns how many results were written.
    """
    jobs.lock(c, {fate.claim.job_id for fate in fates})
    ours = [fate for some in _alike(fates) for fate in _end(c, some)]
    if ours:
        rows = [_row(fate, maker, environment) for fate in ours]
        c.execute(WRITE, rows)
        _count(c, ours)
        tallies.add_results(c, rows)
    return len(ours)


def release(c: sa.Connection, claims: Sequence[Claim]) -> int:
    """Hand claimed images back at once, as if they had never been taken: an attempt that counts is given back too."""
    values = {"status": tables.Status.QUEUED, "worker": None, "lease_until": None}
    jobs.lock(c, {claim.job_id for claim in claims})
    back = sa.update(IMAGES).where(_held(claims)).values(**values, attempt=IMAGES.c.attempt - _counted_once(claims))
    return _requeue(c, back)


def drop(c: sa.Connection, claims: Sequence[Claim]) -> int:
    """End the leases of images that a worker could not cope with: the next sweep deals with them as with lost ones."""
    attempt = IMAGES.c.attempt + 1 - _counted_once(claims)
    return c.execute(sa.update(IMAGES).where(_held(claims)).values(lease_until=clock.now(), attempt=attempt)).rowcount


def _counted_once(claims: Sequence[Claim]) -> sa.ColumnElement[int]:
    """1 for the images whose attempt counts already, 0 for those that were taken again and not started."""
    again = [claim.image_id for claim in claims if claim.again]
    return sa.case((IMAGES.c.id.in_(again), 0), else_=1)


def rescue(c: sa.Connection, *, max_attempts: int) -> tuple[int, int]:
    """Find images whose lease has run out: queue them again, or fail them at the cap. Returns how many of each.

    Safe however many do it at once: each image changes state under its lock, once.
    """
    late = (RUNNING, IMAGES.c.lease_until <= clock.now())
    # The jobs first, as everywhere: two that wait for each other's locks would end in a deadlock.
    jobs.lock(c, c.execute(sa.select(IMAGES.c.job_id).where(*late).limit(1000).distinct()).scalars().all())
    lost = sa.select(IMAGES.c.id).where(*late).order_by(IMAGES.c.job_id).limit(1000).with_for_update(skip_locked=True)
    values = {"status": tables.Status.QUEUED, "worker": None, "lease_until": None}
    again = sa.update(IMAGES).where(IMAGES.c.id.in_(lost.where(IMAGES.c.attempt < max_attempts)), RUNNING)
    queued = _requeue(c, again.values(values))
    return queued, _give_up(c, lost.where(IMAGES.c.attempt >= max_attempts))


def _requeue(c: sa.Connection, update: sa.Update) -> int:
    """Queue images again; those of jobs that were called off meanwhile are cancelled instead."""
    job_ids = c.execute(update.returning(IMAGES.c.job_id)).scalars().all()
    jobs.cancel_queued(c, set(job_ids))
    return len(job_ids)


def _give_up(c: sa.Connection, lost: sa.Select[Any]) -> int:
    rows = c.execute(sa.select(*CLAIMED, IMAGES.c.model).where(IMAGES.c.id.in_(lost))).all()
    for *claimed, model in rows:
        claim = Claim(*claimed)
        detail = f"Each of the {claim.attempt} times that a worker took this picture, it was lost or broke down."
        finish(c, [Fate(claim, error_code="worker_lost", error_detail=detail)], Maker(model))
    return len(rows)


def _alike(fates: Iterable[Fate]) -> Iterable[list[Fate]]:
    """By what one statement can end: one status, one fence."""
    alike: dict[Any, list[Fate]] = {}
    for fate in fates:
        alike.setdefault((fate.status, fate.claim.attempt, fate.claim.worker), []).append(fate)
    return alike.values()


def _end(c: sa.Connection, fates: Sequence[Fate]) -> Iterable[Fate]:
    """End images of one status and fence. Returns those whose lease was not lost meanwhile."""
    one = fates[0]
    ids = [fate.claim.image_id for fate in fates]
    fence = {"ids": ids, "mine": one.claim.attempt, "me": one.claim.worker}
    ended = set(c.execute(END, {**fence, "end": one.status}).scalars())
    return [fate for fate in fates if fate.claim.image_id in ended]


def _held(claims: Sequence[Claim]) -> sa.ColumnElement[bool]:
    # The attempt alone is no fence: an image that is handed back gives it to its next holder.
    by_fence: dict[tuple[int, str], list[int]] = {}
    for claim in claims:
        by_fence.setdefault((claim.attempt, claim.worker), []).append(claim.image_id)
    held = [
        sa.and_(IMAGES.c.id.in_(ids), IMAGES.c.attempt == attempt, IMAGES.c.worker == worker)
        for (attempt, worker), ids in by_fence.items()
    ]
    return sa.and_(sa.or_(sa.false(), *held), RUNNING)


def _count(c: sa.Connection, fates: Sequence[Fate]) -> None:
    """Move the counters of the jobs, each job once."""
    job_ids = sorted({fate.claim.job_id for fate in fates})
    c.execute(COUNT, [_counted(id_, [fate for fate in fates if fate.claim.job_id == id_]) for id_ in job_ids])
    jobs.end_if_complete(c, job_ids)


def _counted(job_id: str, fates: Sequence[Fate]) -> dict[str, Any]:
    counts = Counter(fate.status for fate in fates)
    return {
        "job": job_id,
        "more_done": counts[tables.Status.DONE],
        "more_failed": counts[tables.Status.FAILED],
        "started": min(fate.claim.claimed_at for fate in fates),
    }


def _row(fate: Fate, maker: Maker, environment: int | None) -> dict[str, Any]:
    return {
        "image_id": fate.claim.image_id,
        "job_id": fate.claim.job_id,
        "status": fate.status.value,
        "label": fate.label,
        "confidence": fate.confidence,
        "scores": fate.scores,
        "error_code": fate.error_code,
        "error_detail": fate.error_detail,
        "model": maker.name,
        "model_version": maker.version,
        "model_digest": maker.digest,
        "cached": False,
        "timings": fate.timings,
        "environment_id": environment,
    }
