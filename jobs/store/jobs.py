"""Jobs: how one comes to be, grows, is sealed, called off and looked at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from jobs import clock, errors, tables
from jobs.store.sql import RUNNING, insert

JOBS: Any = tables.Job.__table__
IMAGES: Any = tables.Image.__table__
RESULTS: Any = tables.Result.__table__
ENDED = JOBS.c.done + JOBS.c.failed + JOBS.c.cancelled + JOBS.c.expired


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


@dataclass(frozen=True)
class NewImage:
    """One picture of an order; with an error if its header already condemns it."""

    name: str
    sha256: str
    bytes: int
    error: errors.BadPicture | None = None


def create(c: sa.Connection, job: NewJob, images: Sequence[NewImage]) -> str:
    """Make a job with its images, and return its id; a repeat under one idempotency key returns the first.

    Raises:
        errors.IdempotencyMismatch: the key was used for another order.
    """
    ended = sum(image.error is not None for image in images)
    values = {
        "id": str(uuids.uuid7()),
        "owner": job.owner,
        "model": job.model,
        "priority": int(job.priority),
        "metadata": dict(job.metadata or {}),
        "idempotency_key": job.idempotency_key,
        "fingerprint": job.fingerprint,
        "total": len(images),
        "done": 0,
        "failed": ended,
        "cancelled": 0,
        "expired": 0,
        "created_at": clock.now(),
        "sealed_at": clock.now() if job.sealed else None,
        "finished_at": clock.now() if job.sealed and ended == len(images) else None,
    }
    new = insert(c, JOBS).values(values)
    new = new.on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
    row = c.execute(new.returning(JOBS.c.id, JOBS.c.model, JOBS.c.priority)).one_or_none()
    if row is None:
        return _repeated(c, job)
    _insert_images(c, row, images)
    return str(row.id)


def _repeated(c: sa.Connection, job: NewJob) -> str:
    where = (JOBS.c.owner == job.owner, JOBS.c.idempotency_key == job.idempotency_key)
    first = c.execute(sa.select(JOBS.c.id, JOBS.c.fingerprint).where(*where)).one()
    if first.fingerprint != job.fingerprint:
        raise errors.IdempotencyMismatch
    return str(first.id)


def add(c: sa.Connection, job_id: str, owner: str, images: Sequence[NewImage]) -> int:
    """Add images to an open job; a name that it has already is left alone. Returns how many are new.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
        errors.JobSealed: the job takes no more, and at least one name is new to it.
    """
    job = _locked(c, job_id, owner)
    known = set(
        c.execute(
            sa.select(IMAGES.c.name).where(IMAGES.c.job_id == job_id, IMAGES.c.name.in_([i.name for i in images]))
        ).scalars()
    )
    new = [image for image in images if image.name not in known]
    if new and job.sealed_at is not None:
        raise errors.JobSealed
    _insert_images(c, job, new)
    refused = sum(image.error is not None for image in new)
    totals = {"total": JOBS.c.total + len(new), "failed": JOBS.c.failed + refused}
    c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(totals))
    return len(new)


def _insert_images(c: sa.Connection, job: sa.Row[Any], images: Sequence[NewImage]) -> None:
    good = [image for image in images if image.error is None]
    bad = [image for image in images if image.error is not None]
    if good:
        c.execute(sa.insert(IMAGES), [_row(job, image, tables.Status.QUEUED) for image in good])
    if bad:
        rows = [_row(job, image, tables.Status.FAILED) for image in bad]
        ids = c.execute(sa.insert(IMAGES).returning(IMAGES.c.id, sort_by_parameter_order=True), rows).scalars()
        results = [_refusal(job, id_, image) for id_, image in zip(ids, bad, strict=True)]
        c.execute(sa.insert(RESULTS).values(finished_at=clock.now()), results)


def seal(c: sa.Connection, job_id: str, owner: str) -> None:
    """Say that a job takes no more images; saying it again changes nothing.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
    """
    _locked(c, job_id, owner)
    c.execute(sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.sealed_at.is_(None)).values(sealed_at=clock.now()))
    end_if_complete(c, [job_id])


def cancel(c: sa.Connection, job_id: str, owner: str) -> None:
    """Call off what no worker has taken yet; what has a result keeps it. Seals the job.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
    """
    job = _locked(c, job_id, owner)
    if job.finished_at is None:
        moments = {name: sa.func.coalesce(JOBS.c[name], clock.now()) for name in ("cancelled_at", "sealed_at")}
        c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(moments))
        cancel_queued(c, [job_id])


def cancel_queued(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Cancel the queued images of those among these jobs that were called off."""
    called_off = sa.select(JOBS.c.id).where(JOBS.c.id.in_(list(job_ids)), JOBS.c.cancelled_at.is_not(None))
    for job_id in c.execute(called_off.order_by(JOBS.c.id).with_for_update()).scalars().all():
        queued = (IMAGES.c.job_id == job_id, IMAGES.c.status == tables.Status.QUEUED)
        count = c.execute(sa.update(IMAGES).where(*queued).values(status=tables.Status.CANCELLED)).rowcount
        _write_cancelled(c, job_id)
        c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(cancelled=JOBS.c.cancelled + count))
        end_if_complete(c, [job_id])


def _write_cancelled(c: sa.Connection, job_id: str) -> None:
    """Give every cancelled image of a job its result, without bringing them here."""
    known = sa.exists().where(RESULTS.c.image_id == IMAGES.c.id)
    values = {
        "image_id": IMAGES.c.id,
        "job_id": IMAGES.c.job_id,
        "status": sa.literal(tables.Status.CANCELLED.value),
        "error_code": sa.literal("cancelled"),
        "error_detail": sa.literal("The job was cancelled before a worker took this picture."),
        "model": IMAGES.c.model,
        "cached": sa.false(),
        "timings": sa.literal({}, RESULTS.c.timings.type),
        "finished_at": clock.now(),
    }
    rows = sa.select(*values.values()).where(
        IMAGES.c.job_id == job_id, IMAGES.c.status == tables.Status.CANCELLED, ~known
    )
    c.execute(sa.insert(RESULTS).from_select(list(values), rows))


def end_if_complete(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Mark those of the jobs as finished that are sealed and whose images have all ended."""
    c.execute(
        sa.update(JOBS)
        .where(
            JOBS.c.id.in_(list(job_ids)),
            JOBS.c.sealed_at.is_not(None),
            JOBS.c.finished_at.is_(None),
            JOBS.c.total == ENDED,
        )
        .values(finished_at=clock.now())
    )


def lock(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Lock the rows of these jobs, always in one order, so that two transactions cannot wait for each other."""
    c.execute(sa.select(JOBS.c.id).where(JOBS.c.id.in_(list(job_ids))).order_by(JOBS.c.id).with_for_update())


def job(c: sa.Connection, job_id: str, owner: str | None) -> sa.Row[Any]:
    """One job with its live counts; `owner` None sees everybody's.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
    """
    row = c.execute(_view().where(JOBS.c.id == job_id, *_of(owner))).one_or_none()
    if row is None:
        raise errors.JobNotFound
    return row


def page(
    c: sa.Connection, owner: str | None, *, limit: int, before: str | None = None, status: str | None = None
) -> Sequence[sa.Row[Any]]:
    """Jobs, newest first, from below the id `before`."""
    query = _view().where(*_of(owner)).order_by(JOBS.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(JOBS.c.id < before)
    if status is not None:
        query = query.where(_status() == status)
    return c.execute(query).all()


def _view() -> sa.Select[Any]:
    running = sa.select(sa.func.count()).where(IMAGES.c.job_id == JOBS.c.id, RUNNING).scalar_subquery()
    return sa.select(JOBS, running.label("running"), _status().label("status"))


def _status() -> sa.ColumnElement[str]:
    """The status of a job: that of the stage that it is in, and once it has ended that of the best of its images."""
    some_running = sa.exists().where(IMAGES.c.job_id == JOBS.c.id, RUNNING)
    return sa.case(
        (JOBS.c.finished_at.is_(None) & ((ENDED > 0) | some_running), tables.Status.RUNNING.value),
        (JOBS.c.finished_at.is_(None), tables.Status.QUEUED.value),
        (JOBS.c.cancelled_at.is_not(None), tables.Status.CANCELLED.value),
        (JOBS.c.done > 0, tables.Status.DONE.value),
        (JOBS.c.failed > 0, tables.Status.FAILED.value),
        (JOBS.c.expired > 0, tables.Status.EXPIRED.value),
        else_=tables.Status.DONE.value,
    )


def _of(owner: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if owner is None else [JOBS.c.owner == owner]


def _locked(c: sa.Connection, job_id: str, owner: str) -> sa.Row[Any]:
    row = c.execute(sa.select(JOBS).where(JOBS.c.id == job_id, JOBS.c.owner == owner).with_for_update()).one_or_none()
    if row is None:
        raise errors.JobNotFound
    return row


def _row(job: sa.Row[Any], image: NewImage, status: tables.Status) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "name": image.name,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "model": job.model,
        "priority": job.priority,
        "status": status.value,
        "attempt": 0,
    }


def _refusal(job: sa.Row[Any], image_id: int, image: NewImage) -> dict[str, Any]:
    assert image.error is not None  # noqa: S101 (for the type checker)
    return {
        "image_id": image_id,
        "job_id": job.id,
        "status": tables.Status.FAILED.value,
        "error_code": image.error.code,
        "error_detail": image.error.detail,
        "model": job.model,
        "cached": False,
        "timings": {},
    }
