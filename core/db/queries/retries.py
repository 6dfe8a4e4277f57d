"""Retries: a new job of the images of another that got no label.

A retry of many images is copied step by step, and sealed with the last step; until then it is the only kind of job that
has a `retry_of` and is not sealed. The position is the last name in it: images are copied in the order of their names.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import enums, errors
from core.db import clock
from core.db.expressions import IMAGES, IS_REJECTED, JOBS, RESULTS, any_of, no_index
from core.db.queries import jobs, quotas, url_fetches

COPIED_PER_STEP = 2_000
"""How many images one transaction copies: others wait for it."""
IS_RETRYABLE = (IMAGES.c.status != enums.Status.DONE, ~IS_REJECTED)
COPIED_COLUMNS = ("name", "custom_id", "sha256", "bytes", "source", "location", "model_name", "priority")


class Retryable(NamedTuple):
    """The images of a job that a retry would add to the queue."""

    load: quotas.Load
    first_ids: Sequence[int]
    """The ids of those of the first step."""


class Remaining(NamedTuple):
    """Images that are still to be copied into a retry."""

    after: str | None
    """The last name that was copied."""
    images: Sequence[sa.Row[Any]]
    """The ids and the names of the next ones, in the order of names."""


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


def find_retryable(conn: sa.Connection, job_id: str, owner: str) -> Retryable | None:
    """Return what a retry would add to the queue; None if it exists, or the owner has no such finished job.

    It reads all images of the job: outside of the transaction that creates the retry.
    """
    is_own = (JOBS.c.id == job_id, JOBS.c.api_key_id == owner, JOBS.c.finished_at.is_not(None))
    if conn.execute(sa.select(JOBS.c.id).where(*is_own)).first() is None or existing_retry(conn, job_id) is not None:
        return None
    return _find_retryable(conn, job_id)


def create_retry(
    conn: sa.Connection,
    job_id: str,
    owner: str,
    key_quotas: quotas.Quotas = quotas.UNSET,
    traceparent: str | None = None,
    retryable: Retryable | None = None,
) -> str:
    """Create a job of the images that got no label and might; called again, return the same job. Returns its id.

    Images that the header check rejected are left out: their bytes were not stored, and they would fail again. Of many
    images `copy_step` copies the rest. `retryable` is what `find_retryable` has returned.

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
    load, first_ids = retryable or _find_retryable(conn, job_id)
    if not load.images:
        left_out = ", ".join(f"{count:,} {code}" for code, count in count_left_out(conn, job_id).items())
        rejected_note = f", and the others would fail again ({left_out}): submit other files" if left_out else ""
        raise errors.NothingToRetry(f"There is nothing to retry: {job.done:,} images have a label{rejected_note}.")
    quotas.consume(conn, owner, key_quotas, load)
    copied = {
        name: getattr(job, name)
        for name in ("api_key_id", "name", "model", "priority", "webhook_url", "public_base_url")
    }
    copied |= {"metadata": job.metadata, "traceparent": traceparent, "created_at": clock.now()}
    counts = dict.fromkeys(("total", "bytes", "done", "failed", "cancelled", "expired"), 0)
    new_id = str(uuids.uuid7())
    conn.execute(sa.update(JOBS).where(JOBS.c.retry_of == job_id).values(retry_of=None))  # one that was deleted
    conn.execute(sa.insert(JOBS).values({"id": new_id, "retry_of": job_id, **copied, **counts}))
    _copy(conn, job_id, new_id, owner, first_ids)
    if load.images <= len(first_ids):
        _seal(conn, new_id)
    return new_id


def list_unfinished(conn: sa.Connection, *, limit: int = 100) -> Sequence[str]:
    """Return retries into which images are still to be copied."""
    query = sa.select(JOBS.c.id).where(JOBS.c.sealed_at.is_(None), no_index(JOBS.c.retry_of).is_not(None))
    return list(map(str, conn.execute(query.limit(limit)).scalars()))


def next_images(conn: sa.Connection, retry_id: str, *, limit: int) -> Remaining | None:
    """Return up to `limit` images that are still to be copied into a retry; None if it is complete, and sealed.

    None are left to copy of a job that was deleted meanwhile.
    """
    if (retry := _unsealed_retry(conn, retry_id)) is None:
        return None
    after = _last_name(conn, retry_id)
    is_gone = sa.select(JOBS.c.id).where(JOBS.c.id == retry.retry_of, JOBS.c.purged_at.is_not(None))
    if conn.execute(is_gone).first() is not None:
        return Remaining(after, [])
    return Remaining(after, _next_images(conn, retry.retry_of, after, limit))


def copy_step(
    conn: sa.Connection, retry_id: str, *, after: str | None, image_ids: Sequence[int], is_last: bool
) -> bool:
    """Copy the images that follow the name `after` into a retry, and seal it with the last ones.

    Does nothing and returns False if the retry is sealed, or another process has copied some since.
    """
    lock_with_origin(conn, retry_id)
    retry = _unsealed_retry(conn, retry_id)
    if retry is None or _last_name(conn, retry_id) != after:
        return False
    _copy(conn, retry.retry_of, retry_id, retry.api_key_id, image_ids)
    if is_last:
        _seal(conn, retry_id)
    return True


def copy_beyond(conn: sa.Connection, job_id: str, name: str) -> None:
    """Copy more images into a retry that ends with an image of this name, before that is deleted: it is the position.

    Does nothing for other jobs. `lock_with_origin` must have been called.
    """
    if _unsealed_retry(conn, job_id) is not None and _last_name(conn, job_id) == name:
        remaining = next_images(conn, job_id, limit=COPIED_PER_STEP)
        assert remaining is not None  # noqa: S101 (it is locked)
        ids, is_last = [image.id for image in remaining.images], len(remaining.images) < COPIED_PER_STEP
        copy_step(conn, job_id, after=name, image_ids=ids, is_last=is_last)


def lock_with_origin(conn: sa.Connection, job_id: str) -> None:
    """Lock the row of a job, and of the one whose images are being copied into it: no step of a purge goes on there."""
    origin = sa.select(JOBS.c.retry_of).where(JOBS.c.id == job_id, JOBS.c.sealed_at.is_(None))
    jobs.lock(conn, [job_id, *(str(id_) for id_ in conn.execute(origin).scalars() if id_ is not None)])


def _unsealed_retry(conn: sa.Connection, retry_id: str) -> sa.Row[Any] | None:
    query = sa.select(JOBS.c.retry_of, JOBS.c.api_key_id)
    is_unsealed = (JOBS.c.id == retry_id, JOBS.c.sealed_at.is_(None), no_index(JOBS.c.retry_of).is_not(None))
    return conn.execute(query.where(*is_unsealed)).one_or_none()


def _last_name(conn: sa.Connection, job_id: str) -> str | None:
    return conn.execute(sa.select(sa.func.max(IMAGES.c.name)).where(IMAGES.c.job_id == job_id)).scalar()


def _next_images(conn: sa.Connection, job_id: str, after: str | None, limit: int) -> Sequence[sa.Row[Any]]:
    query = sa.select(IMAGES.c.id, IMAGES.c.name).where(IMAGES.c.job_id == job_id, *IS_RETRYABLE)
    if after is not None:
        query = query.where(IMAGES.c.name > after)
    return conn.execute(query.order_by(IMAGES.c.name).limit(limit)).all()


def _find_retryable(conn: sa.Connection, job_id: str) -> Retryable:
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(IMAGES.c.bytes), 0))
    images, bytes_ = conn.execute(query.where(IMAGES.c.job_id == job_id, *IS_RETRYABLE)).one()
    first = _next_images(conn, job_id, None, COPIED_PER_STEP) if images else []
    return Retryable(quotas.Load(images, int(bytes_)), [image.id for image in first])


def _copy(conn: sa.Connection, job_id: str, retry_id: str, owner: str, image_ids: Sequence[int]) -> None:
    """Copy those of these images that still exist into a retry, in the order of their ids; both jobs are locked."""
    if not image_ids:
        return
    is_selected, parameters = (any_of(IMAGES.c.id, "ids"), *IS_RETRYABLE), {"ids": list(image_ids)}
    query = sa.select(
        sa.literal(retry_id, IMAGES.c.job_id.type),
        sa.literal(owner, IMAGES.c.api_key_id.type),
        *[IMAGES.c[name] for name in COPIED_COLUMNS],
        sa.literal(enums.Status.QUEUED.value),
        sa.literal(0),
    )
    rows = query.where(*is_selected).order_by(IMAGES.c.id)
    insert = sa.insert(IMAGES).from_select(["job_id", "api_key_id", *COPIED_COLUMNS, "status", "attempt"], rows)
    conn.execute(insert, parameters)
    sums = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(IMAGES.c.bytes), 0)).where(*is_selected)
    images, bytes_ = conn.execute(sums, parameters).one()
    counts = {"total": JOBS.c.total + images, "bytes": JOBS.c.bytes + int(bytes_)}
    conn.execute(sa.update(JOBS).where(JOBS.c.id == retry_id).values(counts))
    url_fetches.copy_to_retry(conn, job_id, retry_id, image_ids)


def _seal(conn: sa.Connection, retry_id: str) -> None:
    conn.execute(sa.update(JOBS).where(JOBS.c.id == retry_id).values(sealed_at=clock.now()))
    jobs.end_if_complete(conn, [retry_id])
