"""Purges: pictures and results of jobs that have been over for long enough go; that there was a job stays."""

import sqlalchemy as sa

from jobs import clock
from jobs.store.sql import IMAGES, JOBS


def purge(c: sa.Connection, *, days: float, limit: int = 10) -> set[str]:
    """Remove the images and results of jobs that were over so long ago. Returns the SHA-256 of their blobs."""
    old = sa.select(JOBS.c.id).where(JOBS.c.finished_at < clock.now(-days * 86_400), JOBS.c.purged_at.is_(None))
    query = old.order_by(JOBS.c.id).limit(limit).with_for_update(skip_locked=True)
    job_ids = list(c.execute(query).scalars())
    c.execute(sa.update(JOBS).where(JOBS.c.id.in_(job_ids)).values(purged_at=clock.now()))
    gone = sa.delete(IMAGES).where(IMAGES.c.job_id.in_(job_ids)).returning(IMAGES.c.sha256, IMAGES.c.source)
    # What lies in a source is not ours to remove.
    return {sha256 for sha256, source in c.execute(gone) if source is None}
