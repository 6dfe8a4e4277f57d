"""Images: one picture by its number, whatever has become of it."""

from typing import Any

import sqlalchemy as sa

from jobs import errors
from jobs.store.sql import IMAGES, JOBS, RESULTS


def one(c: sa.Connection, image_id: int, owner: str | None) -> sa.Row[Any]:
    """The SHA-256 of a picture, and why it has no label, if that is known; `owner` None sees everybody's.

    Raises:
        errors.ImageNotFound: there is no such picture of this owner.
        errors.PictureGone: its job was purged.
    """
    query = (
        sa.select(IMAGES.c.sha256, RESULTS.c.error_code, RESULTS.c.error_detail, JOBS.c.purged_at)
        .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
        .outerjoin(RESULTS, RESULTS.c.image_id == IMAGES.c.id)
        .where(IMAGES.c.id == image_id)
    )
    row = c.execute(query if owner is None else query.where(JOBS.c.owner == owner)).one_or_none()
    if row is None:
        raise errors.ImageNotFound
    if row.purged_at is not None:
        raise errors.PictureGone
    return row
