"""Retries: what got no label, ordered anew."""

import sqlalchemy as sa
from uuid_utils import compat as uuids

from jobs import clock, errors, tables
from jobs.store import jobs, quotas
from jobs.store.sql import IMAGES, JOBS, REFUSED


def known(c: sa.Connection, job_id: str) -> str | None:
    """The job that tries again what failed in this one, if there is one."""
    found = c.execute(sa.select(JOBS.c.id).where(JOBS.c.retry_of == job_id)).scalar()
    return None if found is None else str(found)


def retry(
    c: sa.Connection,
    job_id: str,
    owner: str,
    own: quotas.Quotas = quotas.NONE,
    traceparent: str | None = None,
) -> str:
    """A new job of those pictures that got no label though they might; asked again, the same. Returns its id.

    What its header condemned is left out: it was never stored, and would fail again.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
        errors.JobNotOver: it is not finished yet.
        errors.NothingToRetry: there is no such picture.
        errors.Later, errors.TooManyImages: the owner's quotas do not allow it.
    """
    if own.limited:
        quotas.lock(c, owner)
    job = jobs.locked(c, job_id, owner)
    if (there := known(c, job_id)) is not None:
        return there
    if job.finished_at is None:
        raise errors.JobNotOver
    again = (IMAGES.c.job_id == job_id, IMAGES.c.status != tables.Status.DONE, ~REFUSED)
    count = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(IMAGES.c.bytes), 0)).where(*again)
    total, bytes_ = c.execute(count).one()
    if not total:
        left = job.total - job.done
        refused = f", and {left:,} cannot get one, because of what they are: their results say why" if left else ""
        raise errors.NothingToRetry(f"There is nothing to try again: {job.done:,} pictures have a label{refused}.")
    quotas.spend(c, owner, own, quotas.Load(total, int(bytes_)))
    kept = {name: getattr(job, name) for name in ("owner", "model", "priority", "webhook", "webhook_root")}
    kept |= {"metadata": job.metadata, "traceparent": traceparent}
    counts = {"total": total, "bytes": int(bytes_), "done": 0, "failed": 0, "cancelled": 0, "expired": 0}
    moments = {"created_at": clock.now(), "sealed_at": clock.now()}
    new = str(uuids.uuid7())
    c.execute(sa.insert(JOBS).values({"id": new, "retry_of": job_id, **kept, **counts, **moments}))
    names = ("name", "custom_id", "sha256", "bytes", "source", "location", "model", "priority")
    copies = sa.select(
        sa.literal(new, IMAGES.c.job_id.type),
        *[IMAGES.c[name] for name in names],
        sa.literal(tables.Status.QUEUED.value),
        sa.literal(0),
    )
    rows = copies.where(*again).order_by(IMAGES.c.id)
    c.execute(sa.insert(IMAGES).from_select(["job_id", *names, "status", "attempt"], rows))
    return new
