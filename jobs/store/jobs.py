"""Jobs: how one comes to be, grows, is sealed, called off and looked at."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from jobs import clock, errors, tables, tracing
from jobs.store import deliveries, incoming, quotas, tallies
from jobs.store.sql import ENDED, IMAGES, JOBS, RESULTS, RUNNING, SCANNING, SCANS, insert

SCANNED = ("source", "prefix", "include", "exclude", "status", "found", "skipped", "error", "created_at", "ended_at")
"""What a job tells of its scan, each as `scan_…`."""
GIVEN = ("created", "sealed", "finished", "expires")
"""Its moments that may be known when it is made."""

SOME = JOBS.c.id.in_(sa.bindparam("jobs", expanding=True))
LOCK = sa.select(JOBS.c.id).where(SOME).order_by(JOBS.c.id).with_for_update()
END_IF_COMPLETE = (
    sa.update(JOBS)
    .where(SOME, JOBS.c.sealed_at.is_not(None), JOBS.c.finished_at.is_(None), JOBS.c.total == ENDED)
    .values(finished_at=clock.now())
    .returning(JOBS.c.id, JOBS.c.owner, JOBS.c.webhook)
)


@dataclass(frozen=True)
class NewJob:
    """What somebody orders."""

    owner: str
    model: str
    priority: tables.Priority = tables.Priority.BULK
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """A digest of everything ordered, to tell a repeat from another order under the same key."""
    sealed: bool = True
    fresh: bool = False
    """Whether also what has a result already is classified."""
    expires_in: float | None = None
    """In how many seconds pictures that no worker has taken expire."""
    webhook: str | None = None
    """The URL that is told when the job has ended."""
    webhook_root: str | None = None
    """What the links that it is told begin with: the server's URL."""
    limits: quotas.Quotas = quotas.NONE
    """What its owner may do."""
    traceparent: str | None = field(default_factory=tracing.traceparent)
    """The trace in which it is ordered, if there is one."""


Order = tuple[NewJob, Sequence[incoming.NewImage]]


def create(c: sa.Connection, job: NewJob, images: Sequence[incoming.NewImage]) -> str:
    """Make one job with its images, and return its id; see `take`."""
    return str(take(c, [(job, images)])[0].id)


def take(c: sa.Connection, orders: Sequence[Order]) -> list[sa.Row[Any]]:
    """Make jobs with their images, and return each as `job` would; a repeat under one idempotency key is the first.

    Raises:
        errors.IdempotencyMismatch: the key was used for another order.
        errors.Later, errors.TooManyImages: its owner's quotas do not allow it.
        errors.JobPurged: it is a repeat of a job whose results are gone.
    """
    for owner in sorted({job.owner for job, _ in orders if job.limits.limited}):
        quotas.lock(c, owner)
    answers = incoming.recall(c, [((job.owner, job.model), images) for job, images in orders if not job.fresh])
    known = [{} if job.fresh else answers[job.owner, job.model] for job, _ in orders]
    values = [_values(job, images, some) for (job, images), some in zip(orders, known, strict=True)]
    made = {str(row.id): row for row in c.execute(_new(c.dialect.name), sorted(values, key=_place)).all()}
    rows = [made.get(value["id"]) for value in values]
    for row, (job, images) in zip(rows, orders, strict=True):
        if row is not None:
            quotas.spend(c, job.owner, job.limits, incoming.load(images), besides=row.id)
    incoming.insert(
        c, [(row, images, some) for row, (_, images), some in zip(rows, orders, known, strict=True) if row is not None]
    )
    deliveries.announce(c, [row for row in made.values() if row.finished_at is not None])
    ids = [_first(c, job) if row is None else str(row.id) for row, (job, _) in zip(rows, orders, strict=True)]
    as_they_are = states(c, ids)
    return [_there(as_they_are[id_], id_) for id_ in ids]


def _place(values: Mapping[str, Any]) -> tuple[str, str]:
    """Where a job comes among those that are made at once: two transactions must not wait for each other crosswise."""
    return values["owner"], values["idempotency_key"] or ""


def _values(job: NewJob, images: Sequence[incoming.NewImage], answers: incoming.Answers) -> dict[str, Any]:
    """The row of a new job; its moments are told in seconds from now."""
    counts = incoming.counts(images, answers)
    ended = job.sealed and counts["done"] + counts["failed"] == len(images)
    return {
        "id": str(uuids.uuid7()),
        "owner": job.owner,
        "model": job.model,
        "priority": int(job.priority),
        "metadata": dict(job.metadata or {}),
        "idempotency_key": job.idempotency_key,
        "fingerprint": job.fingerprint,
        **counts,
        "cancelled": 0,
        "expired": 0,
        "webhook": job.webhook,
        "webhook_root": job.webhook_root,
        "traceparent": job.traceparent,
        "created_in": 0.0,
        "sealed_in": 0.0 if job.sealed else None,
        "finished_in": 0.0 if ended else None,
        "expires_in": job.expires_in,
    }


@functools.cache
def _new(dialect: str) -> Any:
    """The INSERT of jobs, which is kept: to make it anew takes longer than to run it."""
    new = insert(dialect, JOBS).values({f"{name}_at": clock.given(f"{name}_in") for name in GIVEN})
    new = new.on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
    return new.returning(*[JOBS.c[name] for name in ("id", "owner", "model", "priority", "webhook", "finished_at")])


def is_repeat(c: sa.Connection, job: NewJob) -> bool:
    """Whether there is a job of this owner under this idempotency key."""
    where = (JOBS.c.owner == job.owner, JOBS.c.idempotency_key == job.idempotency_key)
    return job.idempotency_key is not None and c.execute(sa.select(JOBS.c.id).where(*where)).scalar() is not None


def _first(c: sa.Connection, job: NewJob) -> str:
    """The job that an order repeats."""
    where = (JOBS.c.owner == job.owner, JOBS.c.idempotency_key == job.idempotency_key)
    first = c.execute(sa.select(JOBS.c.id, JOBS.c.fingerprint).where(*where)).one()
    if first.fingerprint != job.fingerprint:
        raise errors.IdempotencyMismatch
    return str(first.id)


def add(
    c: sa.Connection,
    job_id: str,
    owner: str,
    images: Sequence[incoming.NewImage],
    own: quotas.Quotas = quotas.NONE,
) -> int:
    """Add images to an open job; a name that it has already is left alone. Returns how many are new.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
        errors.JobSealed: the job takes no more, and at least one name is new to it.
        errors.Later, errors.TooManyImages: the owner's quotas do not allow it.
    """
    if own.limited:
        quotas.lock(c, owner)
    job = locked(c, job_id, owner)
    new = unknown(c, job_id, images)
    if new and job.sealed_at is not None:
        raise errors.JobSealed
    if new:
        quotas.spend(c, owner, own, incoming.load(new))
    answers = incoming.recall(c, [((job.owner, job.model), new)])[job.owner, job.model]
    incoming.insert(c, [(job, new, answers)])
    more = {name: JOBS.c[name] + count for name, count in incoming.counts(new, answers).items()}
    c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(more))
    return len(new)


def unknown(c: sa.Connection, job_id: str, images: Sequence[incoming.NewImage]) -> list[incoming.NewImage]:
    """Those of these images whose name the job has not yet."""
    names = [image.name for image in images]
    query = sa.select(IMAGES.c.name).where(IMAGES.c.job_id == job_id, IMAGES.c.name.in_(names))
    known = set(c.execute(query).scalars())
    return [image for image in images if image.name not in known]


def seal(c: sa.Connection, job_id: str, owner: str) -> None:
    """Say that a job takes no more images; saying it again changes nothing.

    One that is being filled from a source is sealed when that is over.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
    """
    locked(c, job_id, owner)
    if c.execute(sa.update(SCANS).where(SCANS.c.job_id == job_id, SCANNING).values(seals=True)).rowcount:
        return
    c.execute(sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.sealed_at.is_(None)).values(sealed_at=clock.now()))
    end_if_complete(c, [job_id])


def cancel(c: sa.Connection, job_id: str, owner: str) -> None:
    """Call off what no worker has taken yet; what has a result keeps it. Seals the job.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
    """
    job = locked(c, job_id, owner)
    if job.finished_at is None:
        moments = {name: sa.func.coalesce(JOBS.c[name], clock.now()) for name in ("cancelled_at", "sealed_at")}
        c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(moments))
        _stop_scans(c, [job_id])
        cancel_queued(c, [job_id])


def cancel_queued(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Cancel the queued images of those among these jobs that were called off."""
    called_off = sa.select(JOBS.c.id).where(JOBS.c.id.in_(list(job_ids)), JOBS.c.cancelled_at.is_not(None))
    for job_id in c.execute(called_off.order_by(JOBS.c.id).with_for_update()).scalars().all():
        detail = "The job was cancelled before a worker took this picture."
        _end_queued(c, job_id, tables.Status.CANCELLED, detail)


def expire(c: sa.Connection, *, limit: int = 100) -> list[str]:
    """End what no worker has taken before its job's deadline, and seal those jobs. Returns their ids."""
    late = sa.select(JOBS.c.id).where(JOBS.c.finished_at.is_(None), JOBS.c.expires_at < clock.now())
    query = late.order_by(JOBS.c.expires_at).limit(limit).with_for_update(skip_locked=True)
    job_ids = list(map(str, c.execute(query).scalars()))
    seal_now = {"sealed_at": sa.func.coalesce(JOBS.c.sealed_at, clock.now())}
    c.execute(sa.update(JOBS).where(JOBS.c.id.in_(job_ids)).values(seal_now))
    _stop_scans(c, job_ids)
    for job_id in job_ids:
        _end_queued(c, job_id, tables.Status.EXPIRED, "The job's deadline passed before a worker took this picture.")
    return job_ids


def _stop_scans(c: sa.Connection, job_ids: Sequence[str]) -> None:
    """Find nothing more for jobs that take nothing more."""
    over = {"status": tables.ScanStatus.CANCELLED, "next_at": None, "lease_until": None, "error": None}
    scanned = sa.update(SCANS).where(SCANS.c.job_id.in_(job_ids), SCANNING)
    c.execute(scanned.values(over | {"ended_at": clock.now()}))


def _end_queued(c: sa.Connection, job_id: str, status: tables.Status, detail: str) -> None:
    """End the queued images of a job, whose row is locked, with a status that is its own error code."""
    queued = (IMAGES.c.job_id == job_id, IMAGES.c.status == tables.Status.QUEUED)
    count = c.execute(sa.update(IMAGES).where(*queued).values(status=status)).rowcount
    if count:
        _write_ended(c, job_id, status, detail)
        column = JOBS.c[status.value]
        counted = sa.update(JOBS).where(JOBS.c.id == job_id).values({column: column + count}).returning(JOBS.c.model)
        ended = {"model": c.execute(counted).scalar_one(), "status": status.value, "error_code": status.value}
        tallies.add_results(c, [{**ended, "cached": False}], count)
    end_if_complete(c, [job_id])


def _write_ended(c: sa.Connection, job_id: str, status: tables.Status, detail: str) -> None:
    """Give every image of a job that has ended so its result, without bringing them here."""
    known = sa.exists().where(RESULTS.c.image_id == IMAGES.c.id)
    values = {
        "image_id": IMAGES.c.id,
        "job_id": IMAGES.c.job_id,
        "status": sa.literal(status.value),
        "error_code": sa.literal(status.value),
        "error_detail": sa.literal(detail),
        "model": IMAGES.c.model,
        "cached": sa.false(),
        "timings": sa.literal({}, RESULTS.c.timings.type),
        "finished_at": clock.now(),
    }
    rows = sa.select(*values.values()).where(IMAGES.c.job_id == job_id, IMAGES.c.status == status, ~known)
    c.execute(sa.insert(RESULTS).from_select(list(values), rows))


def end_if_complete(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Mark those of the jobs as finished that are sealed and whose images have all ended; who waits is to be told."""
    deliveries.announce(c, c.execute(END_IF_COMPLETE, {"jobs": list(job_ids)}).all())


def lock(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Lock the rows of these jobs, always in one order, so that two transactions cannot wait for each other."""
    if c.dialect.name != "sqlite":  # whose transactions that write come one after the other
        c.execute(LOCK, {"jobs": list(job_ids)})


def job(c: sa.Connection, job_id: str, owner: str | None) -> sa.Row[Any]:
    """One job with its live counts; `owner` None sees everybody's.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
        errors.JobPurged: there was one, and its results are gone.
    """
    known = {"job": job_id} if owner is None else {"job": job_id, "owner": owner}
    return _there(c.execute(_one(owned=owner is not None), known).one_or_none(), job_id)


@functools.cache
def _one(*, owned: bool) -> sa.Select[Any]:
    mine = [JOBS.c.owner == sa.bindparam("owner")] if owned else []
    return view().where(JOBS.c.id == sa.bindparam("job"), *mine)


def states(c: sa.Connection, job_ids: Iterable[str]) -> dict[str, sa.Row[Any]]:
    """Those of these jobs that there are, by id, with their live counts."""
    return {str(row.id): row for row in c.execute(_some(), {"jobs": list(job_ids)})}


@functools.cache
def _some() -> sa.Select[Any]:
    return view().where(SOME)


def traceparents(c: sa.Connection, job_ids: Iterable[str]) -> dict[str, str]:
    """In which traces these jobs were ordered, by their ids; of those that were in none, nothing."""
    traced = sa.select(JOBS.c.id, JOBS.c.traceparent).where(JOBS.c.id.in_(list(job_ids)))
    return {str(id_): trace for id_, trace in c.execute(traced.where(JOBS.c.traceparent.is_not(None)))}


def view() -> sa.Select[Any]:
    """Jobs with their live counts."""
    running = sa.select(sa.func.count()).where(IMAGES.c.job_id == JOBS.c.id, RUNNING).scalar_subquery()
    scan = [SCANS.c[name].label(f"scan_{name}") for name in SCANNED]
    query = sa.select(JOBS, running.label("running"), status().label("status"), *scan)
    return query.outerjoin(SCANS, SCANS.c.job_id == JOBS.c.id)


def status() -> sa.ColumnElement[str]:
    """The status of a job: that of the stage that it is in, and once it has ended that of the best of its images.

    One whose scan has failed has failed, whatever was found before: it is not all that was ordered.
    """
    some_running = sa.exists().where(IMAGES.c.job_id == JOBS.c.id, RUNNING)
    # Of its own, for some who ask have the scans in their query and some have not.
    scan_failed = sa.exists().where(SCANS.c.job_id == JOBS.c.id, SCANS.c.status == tables.ScanStatus.FAILED.value)
    scan_failed = scan_failed.correlate(JOBS)
    return sa.case(
        (JOBS.c.finished_at.is_(None) & ((ENDED > 0) | some_running), tables.Status.RUNNING.value),
        (JOBS.c.finished_at.is_(None), tables.Status.QUEUED.value),
        (JOBS.c.cancelled_at.is_not(None), tables.Status.CANCELLED.value),
        (scan_failed, tables.Status.FAILED.value),
        (JOBS.c.done > 0, tables.Status.DONE.value),
        (JOBS.c.failed > 0, tables.Status.FAILED.value),
        (JOBS.c.expired > 0, tables.Status.EXPIRED.value),
        else_=tables.Status.DONE.value,
    )


def locked(c: sa.Connection, job_id: str, owner: str) -> sa.Row[Any]:
    """One job of this owner, its row locked to the end of the transaction.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
        errors.JobPurged: there was one, and its results are gone.
    """
    query = sa.select(JOBS).where(JOBS.c.id == job_id, JOBS.c.owner == owner).with_for_update()
    return _there(c.execute(query).one_or_none(), job_id)


def _there(row: sa.Row[Any] | None, job_id: str) -> sa.Row[Any]:
    if row is None:
        raise errors.JobNotFound(f"There is no job {job_id!r} among yours.")
    if row.purged_at is not None:
        raise errors.JobPurged.of(row.total, row.bytes, row.purged_at)
    return row
