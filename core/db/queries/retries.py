"""Retries: a new job of the images of another that got no label."""

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import enums, errors
from core.db import clock
from core.db.expressions import IMAGES, IS_REJECTED, JOBS, RESULTS
from core.db.queries import jobs, quotas, url_fetches


def existing_retry(conn: sa.Connection, job_id: str) -> str | None:
    """Return the id of the job that retries this one, if there is one that was not deleted."""
    query = sa.select(JOBS.c.id).where(JOBS.c.retry_of == job_id, JOBS.c.purged_at.is_(None))
    retry_id = conn.execute(query).scalar()
    return None if retry_id is None else str(retry_id)


def count_left_out(conn: sa.Connection, job_id: str) -> dict[str, int]:
    """Count the images of a job that a retry leaves out, by the code of their error."""
    query = sa.select(RESULTS.c.error_code, sa.func.count()).join(IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    query = query.where(RESULTS.c.job_id == job_id, IMAGES.c.job_id == job_id, IS_REJECTED)
    rows = conn.execute(query.group_by(RESULTS.c.error_code).order_by(RESULTS.c.error_code)).all()
    return {row[0]: row[1] for row in rows}


def load_of_retry(conn: sa.Connection, job_id: str, owner: str) -> quotas.Load:
    """Return what a retry would add to the queue: nothing if it exists already, or the job is not the owner's."""
    is_own = sa.select(JOBS.c.id).where(JOBS.c.id == job_id, JOBS.c.api_key_id == owner)
    if conn.execute(is_own).first() is None or existing_retry(conn, job_id) is not None:
        return quotas.NO_LOAD
    return _retryable_load(conn, job_id)


def create_retry(
    conn: sa.Connection,
    job_id: str,
    owner: str,
    key_quotas: quotas.Quotas = quotas.UNSET,
    traceparent: str | None = None,
) -> str:
    """Create a job of the images that got no label and might; called again, return the same job. Returns its id.

    Images that the header check rejected are left out: their bytes were not stored, and they would fail again.

    Raises:
        errors.JobNotFound: the owner has no such job.
        errors.JobNotFinished: the job is not finished yet.
        errors.NothingToRetry: no image can be retried.
        errors.TemporarilyRejected, errors.TooManyImages: the owner's quotas do not allow it.
    """
    if key_quotas.is_limited:
        quotas.lock_key(conn, owner)
    job = jobs.get_for_update(conn, job_id, owner)
    if (existing := existing_retry(conn, job_id)) is not None:
        return existing
    if job.finished_at is None:
        raise errors.JobNotFinished(f"Job {job_id} has not ended; wait until it has, then retry.")
    load = _retryable_load(conn, job_id)
    if not load.images:
        left_out = ", ".join(f"{count:,} {code}" for code, count in count_left_out(conn, job_id).items())
        rejected_note = f", and the others would fail again ({left_out}): submit other files" if left_out else ""
        raise errors.NothingToRetry(f"There is nothing to retry: {job.done:,} images have a label{rejected_note}.")
    quotas.consume(conn, owner, key_quotas, load)
    copied = {
        name: getattr(job, name)
        for name in ("api_key_id", "name", "model", "priority", "webhook_url", "public_base_url")
    }
    copied |= {"metadata": job.metadata, "traceparent": traceparent}
    counts = {"total": load.images, "bytes": load.bytes, "done": 0, "failed": 0, "cancelled": 0, "expired": 0}
    timestamps = {"created_at": clock.now(), "sealed_at": clock.now()}
    new_id = str(uuids.uuid7())
    conn.execute(sa.update(JOBS).where(JOBS.c.retry_of == job_id).values(retry_of=None))  # one that was deleted
    conn.execute(sa.insert(JOBS).values({"id": new_id, "retry_of": job_id, **copied, **counts, **timestamps}))
    copied_columns = ("name", "custom_id", "sha256", "bytes", "source", "location", "model_name", "priority")
    query = sa.select(
        sa.literal(new_id, IMAGES.c.job_id.type),
        sa.literal(owner, IMAGES.c.api_key_id.type),
        *[IMAGES.c[name] for name in copied_columns],
        sa.literal(enums.Status.QUEUED.value),
        sa.literal(0),
    )
    rows = query.where(*_is_retryable(job_id)).order_by(IMAGES.c.id)
    conn.execute(sa.insert(IMAGES).from_select(["job_id", "api_key_id", *copied_columns, "status", "attempt"], rows))
    url_fetches.copy_to_retry(conn, job_id, new_id)
    return new_id


def _retryable_load(conn: sa.Connection, job_id: str) -> quotas.Load:
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(IMAGES.c.bytes), 0))
    images, bytes_ = conn.execute(query.where(*_is_retryable(job_id))).one()
    return quotas.Load(images, int(bytes_))


def _is_retryable(job_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (IMAGES.c.job_id == job_id, IMAGES.c.status != enums.Status.DONE, ~IS_REJECTED)
