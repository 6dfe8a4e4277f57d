"""Jobs: create, extend, seal, cancel, expire and read them."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import enums, errors
from core.db import clock, prepared, task_leases, views
from core.db.expressions import (
    ENDED_COUNT,
    IMAGES,
    IS_QUEUED,
    IS_RUNNING,
    IS_SCAN_PENDING,
    JOBS,
    RESULTS,
    SCANS,
    any_of,
    insert,
)
from core.db.job_row import JobRow
from core.db.new_image import NewImage
from core.db.queries import counters, known_blobs, new_images, quotas, webhook_deliveries
from core.tracing import tracer

TIMESTAMP_NAMES = ("created", "sealed", "finished", "expires")
"""The timestamps of a job that may be known when it is created."""

# As text: in RETURNING, SQLAlchemy leaves out the names of tables.
OWNER_NAME: sa.ColumnElement[str] = sa.literal_column(
    "(SELECT api_keys.name FROM api_keys WHERE api_keys.id = jobs.api_key_id)", sa.String()
)
INSERTED_COLUMNS = [JOBS.c.id, OWNER_NAME, *[JOBS.c[f"{name}_at"] for name in TIMESTAMP_NAMES]]
STATUS: sa.ColumnElement[str] = sa.literal_column(views.JOB_STATUS, sa.String())
"""The status of a job, for statements that select from `jobs` under its own name."""

SELECT_NAMES = prepared.Prepared(
    sa.select(IMAGES.c.name).where(IMAGES.c.job_id == sa.bindparam("job"), any_of(IMAGES.c.name, "names")),
    [IMAGES.c.name],
)
LOCK_JOB = prepared.Prepared(
    sa.select(JOBS.c.id)
    .where(JOBS.c.id == sa.bindparam("job"), JOBS.c.api_key_id == sa.bindparam("owner"))
    .with_for_update(),
    [JOBS.c.id],
)
ADDED_COUNTS = ("total", "done", "failed", "bytes")
COUNT_ADDED = prepared.Prepared(
    sa.update(JOBS)
    .where(JOBS.c.id == sa.bindparam("job"))
    .values(
        {name: JOBS.c[name] + sa.bindparam(f"added_{name}") for name in ADDED_COUNTS} | {"last_fed_at": clock.now()}
    )
)
HAS_ID = JOBS.c.id.in_(sa.bindparam("jobs", expanding=True))
LOCK_JOBS = sa.select(JOBS.c.id).where(HAS_ID).order_by(JOBS.c.id).with_for_update()

ENDED_PER_STEP = 2_000
"""How many queued images of jobs that were cancelled or are overdue one transaction ends: others wait for it."""
END_DETAILS = {
    enums.Status.CANCELLED: "The job was cancelled before a worker claimed this image.",
    enums.Status.EXPIRED: "The job's deadline passed before a worker claimed this image.",
}


class EndedJob(NamedTuple):
    """A job that has just ended."""

    id: str
    api_key_id: str
    webhook_url: str | None
    total: int
    started_at: datetime | None
    finished_at: datetime


ENDED_COLUMNS = [JOBS.c[name] for name in EndedJob._fields]
END_IF_COMPLETE = prepared.Prepared(
    sa.update(JOBS)
    .where(
        any_of(JOBS.c.id, "jobs"),
        JOBS.c.sealed_at.is_not(None),
        JOBS.c.finished_at.is_(None),
        JOBS.c.total == ENDED_COUNT,
    )
    .values(finished_at=clock.now())
    .returning(*ENDED_COLUMNS),
    ENDED_COLUMNS,
)


@dataclass(frozen=True)
class NewJob:
    """A job to be created."""

    owner: str
    model: str
    priority: enums.Priority = enums.Priority.BULK
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """A digest of the submission: another submission under the same idempotency key has another."""
    sealed: bool = True
    fresh: bool = False
    """Whether to bypass the cache, and classify images that have a result already."""
    expires_in: float | None = None
    """After how many seconds images that no worker has claimed expire."""
    webhook_url: str | None = None
    """Where the webhook goes when the job has finished."""
    public_base_url: str | None = None
    """The server's URL as the caller knows it: the links in the webhook begin with it."""
    key_quotas: quotas.Quotas = quotas.UNSET
    """The owner's quotas."""
    max_open_jobs: int = 0
    """How many open jobs the owner may have; 0 means no limit."""
    name: str | None = None
    """A name for people."""
    traceparent: str | None = field(default_factory=tracer.traceparent)
    """The trace of the submission, if there is one."""


Submission = tuple[NewJob, Sequence[NewImage]]


def insert_jobs(conn: sa.Connection, submissions: Sequence[Submission]) -> list[JobRow]:
    """Create jobs with their images and return each as `get` would; a repeat under an idempotency key is the first job.

    Raises:
        errors.IdempotencyMismatch: the key was used for another submission.
        errors.TemporarilyRejected, errors.TooManyImages: the owner's quotas do not allow it.
        errors.JobPurged: it is a repeat of a job whose results were removed.
        errors.UnknownBlob: bytes that an image refers to are not stored any more.
    """
    referred = {image.sha256 for _, images in submissions for image in images if image.reference}
    gone = known_blobs.lock_stored(conn, referred) if referred else referred
    for owner in sorted({job.owner for job, _ in submissions if job.key_quotas.is_limited or not job.sealed}):
        quotas.lock_key(conn, owner)
    cached_by_key = new_images.lookup_cached(
        conn, [((job.owner, job.model), images) for job, images in submissions if not job.fresh]
    )
    cached = [{} if job.fresh else cached_by_key[job.owner, job.model] for job, _ in submissions]
    values = [_job_values(job, images, results) for (job, images), results in zip(submissions, cached, strict=True)]
    inserted = {
        id_: (owner_name, *timestamps)
        for id_, owner_name, *timestamps in _insert_statement(conn.dialect.name).insert_rows(
            conn, sorted(values, key=_insert_key)
        )
    }
    rows = [_new_job_row(job, *inserted[job["id"]]) if job["id"] in inserted else None for job in values]
    for row, (job, images) in zip(rows, submissions, strict=True):
        if row is not None:
            if gone:
                known_blobs.require_stored(images, gone)
            if job.key_quotas.is_limited:
                quotas.consume(conn, job.owner, job.key_quotas, submission_load(job, images), exclude_job=row.id)
            if not job.sealed:
                quotas.check_open_jobs(conn, job.owner, job.max_open_jobs)
    new_images.insert(
        conn,
        [
            (row, images, results)
            for row, (_, images), results in zip(rows, submissions, cached, strict=True)
            if row is not None
        ],
    )
    webhook_deliveries.enqueue(conn, [row for row in rows if row is not None and row.finished_at is not None])
    if None not in rows:
        return [row for row in rows if row is not None]
    repeated = find_repeated(conn, [job for job, _ in submissions])
    return [_require_repeated(repeat) if row is None else row for row, repeat in zip(rows, repeated, strict=True)]


def _insert_key(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the sort key of jobs inserted together: in one order, so that two transactions cannot deadlock."""
    return values["api_key_id"], values["idempotency_key"] or ""


def _job_values(job: NewJob, images: Sequence[NewImage], cached: new_images.CachedResults) -> dict[str, Any]:
    """Return the columns of a new job; its timestamps are in seconds from now."""
    counts = new_images.initial_counts(images, cached)
    is_finished = job.sealed and counts["done"] + counts["failed"] == len(images)
    return {
        "id": str(uuids.uuid7()),
        "api_key_id": job.owner,
        "name": job.name,
        "model": job.model,
        "priority": int(job.priority),
        "metadata": dict(job.metadata or {}),
        "idempotency_key": job.idempotency_key,
        "fingerprint": job.fingerprint,
        **counts,
        "cancelled": 0,
        "expired": 0,
        "webhook_url": job.webhook_url,
        "public_base_url": job.public_base_url,
        "traceparent": job.traceparent,
        "created_in": 0.0,
        "sealed_in": 0.0 if job.sealed else None,
        "finished_in": 0.0 if is_finished else None,
        "expires_in": job.expires_in,
    }


def _new_job_row(values: Mapping[str, Any], owner_name: str, *timestamps: Any) -> JobRow:
    """Return the row of a job that was inserted with these values, without reading it again."""
    row = {name: value for name, value in values.items() if not name.endswith("_in")}
    row |= {f"{name}_at": timestamp for name, timestamp in zip(TIMESTAMP_NAMES, timestamps, strict=True)}
    return JobRow(**row, owner=owner_name, status=_new_job_status(row))


def _new_job_status(row: Mapping[str, Any]) -> str:
    """Return the status of a job whose images were all added a moment ago; see `views.JOB_STATUS`."""
    if row["finished_at"] is None:
        status = enums.JobStatus.RUNNING if row["done"] or row["failed"] else enums.JobStatus.QUEUED
    else:
        status = enums.JobStatus.FAILED if row["failed"] and not row["done"] else enums.JobStatus.DONE
    return status.value


@functools.cache
def _insert_statement(dialect: str) -> prepared.Prepared:
    """Build the INSERT of jobs; it returns those that are new."""
    statement = insert(dialect, JOBS).values(
        {f"{name}_at": clock.now_plus_parameter(f"{name}_in") for name in TIMESTAMP_NAMES}
    )
    statement = statement.on_conflict_do_nothing(index_elements=["api_key_id", "idempotency_key"])
    sets = [name for name in _job_values(NewJob("", ""), [], {}) if name in JOBS.c]
    return prepared.Prepared(statement.returning(*INSERTED_COLUMNS), INSERTED_COLUMNS, sets=sets)


def submission_load(job: NewJob, images: Sequence[NewImage]) -> quotas.Load:
    """Return what a submission counts for: its images, and their bytes with those of its metadata."""
    load = new_images.total_load(images)
    if not job.metadata:
        return load
    return load + quotas.Load(0, len(json.dumps(dict(job.metadata), ensure_ascii=False).encode()))


def find_repeated(conn: sa.Connection, new_jobs: Sequence[NewJob]) -> list[JobRow | errors.ClientError | None]:
    """Return for each new job the one that it repeats under its idempotency key, or the error of that; else None."""
    keyed = [job for job in new_jobs if job.idempotency_key is not None]
    if not keyed:
        return [None] * len(new_jobs)
    params = {"owners": list({job.owner for job in keyed}), "keys": list({job.idempotency_key for job in keyed})}
    rows = [JobRow(*row) for row in _select_jobs("idempotency_key").execute(conn, params)]
    existing = {(row.api_key_id, row.idempotency_key): row for row in rows}
    return [_repeated(job, existing.get((job.owner, job.idempotency_key))) for job in new_jobs]


def _repeated(job: NewJob, existing: JobRow | None) -> JobRow | errors.ClientError | None:
    if existing is None:
        return None
    if existing.fingerprint != job.fingerprint:
        return errors.IdempotencyMismatch()
    try:
        return _require_available(existing, existing.id)
    except errors.ClientError as error:
        return error


def _require_repeated(repeat: JobRow | errors.ClientError | None) -> JobRow:
    if isinstance(repeat, errors.ClientError):
        raise repeat
    assert repeat is not None, "a job was in the way of another, and is gone"  # noqa: S101 (its transaction waited)
    return repeat


def add_images(
    conn: sa.Connection,
    job_id: str,
    owner: str,
    images: Sequence[NewImage],
    key_quotas: quotas.Quotas = quotas.UNSET,
) -> int:
    """Add images to an open job, without those whose name it has already. Return how many are new.

    Raises:
        errors.JobNotFound: the owner has no such job.
        errors.JobSealed: the job is sealed, and at least one name is new to it.
        errors.TemporarilyRejected, errors.TooManyImages: the owner's quotas do not allow it.
        errors.UnknownBlob: bytes that a new image refers to are not stored any more.
    """
    gone = known_blobs.lock_stored(conn, {image.sha256 for image in images if image.reference})
    if key_quotas.is_limited:
        quotas.lock_key(conn, owner)
    job = get_for_update(conn, job_id, owner)
    existing_names = _existing_names(conn, job_id, [image.name for image in images])
    added = [image for image in images if image.name not in existing_names]
    if added and (job.sealed_at is not None or job.retry_of is not None):
        raise errors.JobSealed.of(job_id)
    known_blobs.require_stored(added, gone)
    if added:
        quotas.consume(conn, owner, key_quotas, new_images.total_load(added))
    cached = new_images.lookup_cached(conn, [((owner, job.model), added)])[owner, job.model]
    new_images.insert(conn, [(job, added, cached)])
    if added:
        counts = new_images.initial_counts(added, cached)
        COUNT_ADDED.execute(conn, {"job": job_id} | {f"added_{name}": counts[name] for name in ADDED_COUNTS})
    return len(added)


def extend(
    conn: sa.Connection, job_id: str, owner: str, images: Sequence[NewImage], key_quotas: quotas.Quotas = quotas.UNSET
) -> JobRow:
    """Add images as `add_images` does, and return the job as it is then."""
    add_images(conn, job_id, owner, images, key_quotas)
    return get(conn, job_id, owner)


def get_with_names(conn: sa.Connection, job_id: str, owner: str, names: Sequence[str]) -> tuple[JobRow, set[str]]:
    """Return a job as `get` does, and those of these names that its images have.

    Raises:
        errors.JobNotFound, errors.JobPurged: see `get`.
    """
    return get(conn, job_id, owner), _existing_names(conn, job_id, names)


def _existing_names(conn: sa.Connection, job_id: str, names: Sequence[str]) -> set[str]:
    return {name for (name,) in SELECT_NAMES.execute(conn, {"job": job_id, "names": list(names)})}


def seal(conn: sa.Connection, job_id: str, owner: str) -> None:
    """Seal a job: it takes no more images. Sealing it again changes nothing.

    A job that is being filled from a source is sealed when the scan ends, a retry when its last image is copied.

    Raises:
        errors.JobNotFound: the owner has no such job.
    """
    if get_for_update(conn, job_id, owner).retry_of is not None:
        return
    if conn.execute(
        sa.update(SCANS).where(SCANS.c.job_id == job_id, IS_SCAN_PENDING).values(seal_when_done=True)
    ).rowcount:
        return
    conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.sealed_at.is_(None)).values(sealed_at=clock.now()))
    end_if_complete(conn, [job_id])


def rename(conn: sa.Connection, job_id: str, owner: str, name: str | None) -> None:
    """Change the name of a job; None removes it.

    Raises:
        errors.JobNotFound: the owner has no such job.
        errors.JobPurged: the job's results were removed.
    """
    get_for_update(conn, job_id, owner)
    conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(name=name))


def cancel(conn: sa.Connection, job_id: str, owner: str) -> None:
    """Cancel a job's queued images and seal it; results stay. Of a large job `end_step` cancels the rest.

    Raises:
        errors.JobNotFound: the owner has no such job.
    """
    job = get_for_update(conn, job_id, owner)
    if job.finished_at is None:
        timestamps = {name: sa.func.coalesce(JOBS.c[name], clock.now()) for name in ("cancelled_at", "sealed_at")}
        conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(timestamps))
        _cancel_scans(conn, [job_id])
        _end_queued(conn, [job_id])


def cancel_queued(conn: sa.Connection, job_ids: Iterable[str]) -> None:
    """Cancel the queued images of those of these jobs that are cancelled."""
    cancelled_jobs = sa.select(JOBS.c.id).where(JOBS.c.id.in_(list(job_ids)), JOBS.c.cancelled_at.is_not(None))
    _end_queued(conn, map(str, conn.execute(cancelled_jobs.order_by(JOBS.c.id).with_for_update()).scalars().all()))


def expire(conn: sa.Connection, *, limit: int = 100) -> list[str]:
    """End queued images of jobs past their deadline, `end_step` the rest; seal these jobs. Return their ids."""
    past_deadline = sa.select(JOBS.c.id).where(JOBS.c.finished_at.is_(None), JOBS.c.expires_at < clock.now())
    query = past_deadline.order_by(JOBS.c.expires_at).limit(limit).with_for_update(skip_locked=True)
    job_ids = list(map(str, conn.execute(query).scalars()))
    seal_values = {"sealed_at": sa.func.coalesce(JOBS.c.sealed_at, clock.now())}
    conn.execute(sa.update(JOBS).where(JOBS.c.id.in_(job_ids)).values(seal_values))
    _cancel_scans(conn, job_ids)
    _end_queued(conn, job_ids)
    return job_ids


def seal_abandoned(conn: sa.Connection, *, days: float, limit: int = 100) -> list[str]:
    """Seal the open jobs to which nothing was added for so many days, so that they end. Return their ids."""
    last_fed_at = sa.func.coalesce(JOBS.c.last_fed_at, JOBS.c.created_at)
    has_scan = sa.exists().where(SCANS.c.job_id == JOBS.c.id, IS_SCAN_PENDING)
    is_abandoned = (
        JOBS.c.sealed_at.is_(None),
        JOBS.c.retry_of.is_(None),
        last_fed_at < clock.now(-days * 86_400),
        ~has_scan,
    )
    query = sa.select(JOBS.c.id).where(*is_abandoned).limit(limit).with_for_update(skip_locked=True)
    job_ids = list(map(str, conn.execute(query).scalars()))
    if job_ids:
        conn.execute(sa.update(JOBS).where(JOBS.c.id.in_(job_ids)).values(sealed_at=clock.now()))
        end_if_complete(conn, job_ids)
    return job_ids


def _cancel_scans(conn: sa.Connection, job_ids: Sequence[str]) -> None:
    """Cancel the pending scans of jobs that take no more images."""
    pending_scans = sa.update(SCANS).where(SCANS.c.job_id.in_(job_ids), IS_SCAN_PENDING)
    conn.execute(pending_scans.values(task_leases.final_values(enums.ScanStatus.CANCELLED) | {"error": None}))


def list_ending(conn: sa.Connection, *, limit: int = 100) -> Sequence[str]:
    """Return jobs with queued images that were cancelled or deleted, or are past their deadline."""
    running = sa.select(sa.func.count()).where(IMAGES.c.job_id == JOBS.c.id, IS_RUNNING).scalar_subquery()
    has_queued = JOBS.c.total > ENDED_COUNT + running
    is_ending = sa.or_(JOBS.c.cancelled_at.is_not(None), JOBS.c.expires_at < clock.now())
    found: list[str] = []
    is_deleted = (JOBS.c.deleted_by.is_not(None), JOBS.c.purge_completed_at.is_(None))
    for conditions, order in (
        ((JOBS.c.finished_at.is_(None), is_ending), ()),
        (is_deleted, (JOBS.c.purged_at,)),  # in the order of its index
    ):
        query = sa.select(JOBS.c.id).where(*conditions, has_queued).order_by(*order).limit(limit)
        found += map(str, conn.execute(query).scalars())
    return found


def queued_ids(conn: sa.Connection, job_id: str, *, limit: int) -> Sequence[int]:
    """Return the ids of some of the queued images of a job."""
    return conn.execute(sa.select(IMAGES.c.id).where(IMAGES.c.job_id == job_id, IS_QUEUED).limit(limit)).scalars().all()


def end_step(conn: sa.Connection, job_id: str, image_ids: Sequence[int]) -> None:
    """End those of these images that are still queued; their job was cancelled, or is past its deadline.

    Does nothing if another transaction holds the job.
    """
    lock_free = sa.select(JOBS.c.id).where(JOBS.c.id == job_id).with_for_update(skip_locked=True)
    if conn.execute(lock_free).first() is not None:
        _end_images(conn, job_id, image_ids)


def _end_queued(conn: sa.Connection, job_ids: Iterable[str]) -> None:
    """End queued images of jobs, whose rows are locked, up to `ENDED_PER_STEP`; `end_step` ends the others."""
    remaining = ENDED_PER_STEP
    for job_id in job_ids:
        remaining -= _end_images(conn, job_id, queued_ids(conn, job_id, limit=remaining))


def _end_images(conn: sa.Connection, job_id: str, image_ids: Sequence[int]) -> int:
    """End those of these images of a job, whose row is locked, that are still queued. Return how many.

    They are cancelled if the job was; else its deadline has passed.
    """
    job = conn.execute(sa.select(JOBS.c.model, JOBS.c.cancelled_at).where(JOBS.c.id == job_id)).one()
    status = enums.Status.EXPIRED if job.cancelled_at is None else enums.Status.CANCELLED
    update = sa.update(IMAGES).where(any_of(IMAGES.c.id, "ids"), IS_QUEUED).values(status=status.value)
    ended = conn.execute(update.returning(IMAGES.c.id), {"ids": list(image_ids)}).scalars().all() if image_ids else []
    if ended:
        _insert_final_results(conn, ended, status)
        column = JOBS.c[status.value]
        conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values({column: column + len(ended)}))
        row = {"model_name": job.model, "status": status.value, "error_code": status.value, "cached": False}
        counters.count_results(conn, [row], len(ended))
    end_if_complete(conn, [job_id])
    return len(ended)


def _insert_final_results(conn: sa.Connection, image_ids: Sequence[int], status: enums.Status) -> None:
    """Insert the results of images that have ended with a status that is its own error code."""
    values = {
        "image_id": IMAGES.c.id,
        "job_id": IMAGES.c.job_id,
        "status": sa.literal(status.value),
        "error_code": sa.literal(status.value),
        "error_detail": sa.literal(END_DETAILS[status]),
        "model_name": IMAGES.c.model_name,
        "cached": sa.false(),
        "timings": sa.literal({}, RESULTS.c.timings.type),
        "finished_at": clock.now(),
    }
    rows = sa.select(*values.values()).where(any_of(IMAGES.c.id, "ids"))
    conn.execute(sa.insert(RESULTS).from_select(list(values), rows), {"ids": list(image_ids)})


def end_if_complete(conn: sa.Connection, job_ids: Iterable[str]) -> Sequence[EndedJob]:
    """Mark those of these jobs as finished that are sealed and have no open image, and enqueue their webhooks.

    Returns them.
    """
    ended = [EndedJob(*row) for row in END_IF_COMPLETE.execute(conn, {"jobs": list(job_ids)})]
    webhook_deliveries.enqueue(conn, ended)
    return ended


def end_deleted(conn: sa.Connection, job_id: str) -> None:
    """Mark a job that is being deleted as finished although workers hold some of its images, unless it is.

    Its webhook is due when the job is emptied: only then are its counts final.
    """
    update = sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.finished_at.is_(None))
    ended = conn.execute(update.values(finished_at=clock.now()).returning(*ENDED_COLUMNS)).all()
    webhook_deliveries.enqueue(conn, [EndedJob(*row) for row in ended], is_due=False)


def lock(conn: sa.Connection, job_ids: Iterable[str]) -> None:
    """Lock the rows of these jobs, always in one order, so that two transactions cannot deadlock."""
    if conn.dialect.name != "sqlite":  # its writing transactions are serial
        conn.execute(LOCK_JOBS, {"jobs": list(job_ids)})


def get(conn: sa.Connection, job_id: str, owner: str | None) -> JobRow:
    """Return one job with its live counts; `owner` None sees every key's.

    Raises:
        errors.JobNotFound: the owner has no such job.
        errors.JobPurged: the job's results were removed.
    """
    row = get_many(conn, [job_id]).get(job_id)
    return _require_available(row if row is None or owner in (None, row.api_key_id) else None, job_id)


def get_many(conn: sa.Connection, job_ids: Iterable[str]) -> dict[str, JobRow]:
    """Return those of these jobs that exist, by id, with their live counts."""
    rows = [JobRow(*row) for row in _select_jobs("id").execute(conn, {"ids": list(job_ids)})]
    return {row.id: row for row in rows}


@functools.cache
def _select_jobs(by: str) -> prepared.Prepared:
    """Build the statement that reads jobs by their ids, or by owners and idempotency keys."""
    by_key = (any_of(JOBS.c.api_key_id, "owners"), any_of(JOBS.c.idempotency_key, "keys"))
    query = job_query().where(*([any_of(JOBS.c.id, "ids")] if by == "id" else by_key))
    return prepared.Prepared(query, query.selected_columns)


def traceparents(conn: sa.Connection, job_ids: Iterable[str]) -> dict[str, str]:
    """Return the traces in which these jobs were submitted, by job id, without the jobs that have none."""
    query = sa.select(JOBS.c.id, JOBS.c.traceparent).where(JOBS.c.id.in_(list(job_ids)))
    return {str(id_): traceparent for id_, traceparent in conn.execute(query.where(JOBS.c.traceparent.is_not(None)))}


def job_query() -> sa.Select[Any]:
    """Select the columns of `JobRow`: jobs with their status, live counts, scans and the names of their owners."""
    scan_names = [name for name in JobRow._fields if name.startswith("scan_")]
    columns = {
        **{column.name: column for column in JOBS.columns},
        **{name: SCANS.c[name.removeprefix("scan_")].label(name) for name in scan_names},
        "running": sa.select(sa.func.count()).where(IMAGES.c.job_id == JOBS.c.id, IS_RUNNING).label("running"),
        "status": STATUS.label("status"),
        "owner": OWNER_NAME.label("owner"),
    }
    return sa.select(*[columns[name] for name in JobRow._fields]).outerjoin(SCANS, SCANS.c.job_id == JOBS.c.id)


def get_for_update(conn: sa.Connection, job_id: str, owner: str) -> JobRow:
    """Return one job of this owner, its row locked until the end of the transaction.

    Raises:
        errors.JobNotFound: the owner has no such job.
        errors.JobPurged: the job's results were removed.
    """
    if conn.dialect.name != "sqlite":  # its writing transactions are serial
        LOCK_JOB.execute(conn, {"job": job_id, "owner": owner})
    return get(conn, job_id, owner)


def _require_available(row: JobRow | None, job_id: str) -> JobRow:
    if row is None:
        raise errors.JobNotFound.of(job_id)
    if row.purged_at is not None:
        raise errors.JobPurged.with_totals(row.total, row.bytes, row.purged_at)
    return row
