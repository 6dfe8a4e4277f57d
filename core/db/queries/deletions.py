"""Deletions that a caller asks for: of a job, or of one image. A receipt stays."""

from typing import Any

import sqlalchemy as sa

from core import enums, errors
from core.db import clock
from core.db.expressions import API_KEYS, IMAGE_DELETIONS, IMAGES, JOBS, is_job_of
from core.db.queries import jobs, retries


def delete_job(conn: sa.Connection, job_id: str, owner: str | None, deleted_by: str) -> None:
    """Hide a job from every caller; `retention.deletion_step` then removes its rows. Again changes nothing.

    A job that has not finished is cancelled first. `owner` None may delete every key's jobs.

    Raises:
        errors.JobNotFound: the owner has no such job.
    """
    job = _lock_job(conn, job_id, owner)
    if job is None:
        raise errors.JobNotFound.of(job_id)
    if job.purged_at is not None:
        return
    if job.finished_at is None:
        jobs.cancel(conn, job_id, job.api_key_id)
        jobs.end_deleted(conn, job_id)
    values = {"purged_at": clock.now(), "deleted_by": deleted_by}
    conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(values))


def _lock_job(conn: sa.Connection, job_id: str | None, owner: str | None) -> sa.Row[Any] | None:
    query = sa.select(JOBS).where(JOBS.c.id == job_id, *is_job_of(owner)).with_for_update()
    return conn.execute(query).one_or_none()


def delete_image(
    conn: sa.Connection, image_id: int, owner: str | None, deleted_by: str
) -> tuple[sa.Row[Any], str | None]:
    """Delete an image with its result. Return its receipt, and the digest of its bytes; None if it was deleted before.

    `owner` None may delete every key's images. Deleting it again returns the receipt.

    Raises:
        errors.ImageNotFound: the owner has no such image.
        errors.ImageRunning: a worker holds it.
        errors.ImageGone: its job was purged.
    """
    if (receipt := _receipt(conn, image_id, owner)) is not None:
        return receipt, None
    job_id = conn.execute(sa.select(IMAGES.c.job_id).where(IMAGES.c.id == image_id)).scalar()
    if job_id is not None:
        retries.lock_with_origin(conn, job_id)
    job = _lock_job(conn, job_id, owner)
    image = conn.execute(sa.select(IMAGES).where(IMAGES.c.id == image_id).with_for_update()).one_or_none()
    if job is None or image is None:
        # Another request may have deleted it while this one waited for the job.
        if (receipt := _receipt(conn, image_id, owner)) is not None:
            return receipt, None
        raise errors.ImageNotFound.of(image_id)
    if job.purged_at is not None:
        raise errors.ImageGone
    if image.status == enums.Status.RUNNING:
        raise errors.ImageRunning(f"Image {image_id} is being classified; repeat the request when it has a result.")
    retries.copy_beyond(conn, job.id, image.name)
    conn.execute(sa.delete(IMAGES).where(IMAGES.c.id == image_id))
    counts = {"total": JOBS.c.total - 1, "bytes": JOBS.c.bytes - image.bytes}
    if image.status != enums.Status.QUEUED:
        counts[image.status] = JOBS.c[image.status] - 1
    conn.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(counts))
    values = {"image_id": image_id, "job_id": job_id, "bytes": image.bytes, "deleted_by": deleted_by}
    conn.execute(sa.insert(IMAGE_DELETIONS).values(values | {"deleted_at": clock.now()}))
    jobs.end_if_complete(conn, [str(job_id)])
    receipt = _receipt(conn, image_id, owner)
    assert receipt is not None  # noqa: S101 (it was inserted above)
    return receipt, image.sha256


def require_not_deleted(conn: sa.Connection, image_id: int, owner: str | None) -> None:
    """Check that an image was not deleted.

    Raises:
        errors.ImageGone: it was.
    """
    if _receipt(conn, image_id, owner) is not None:
        raise errors.ImageGone


def _receipt(conn: sa.Connection, image_id: int, owner: str | None) -> sa.Row[Any] | None:
    name = sa.select(API_KEYS.c.name).where(API_KEYS.c.id == IMAGE_DELETIONS.c.deleted_by).scalar_subquery()
    query = sa.select(IMAGE_DELETIONS, name.label("deleted_by_name")).join(JOBS, JOBS.c.id == IMAGE_DELETIONS.c.job_id)
    return conn.execute(query.where(IMAGE_DELETIONS.c.image_id == image_id, *is_job_of(owner))).one_or_none()
