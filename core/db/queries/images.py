"""One image by its id, whatever its status."""

from typing import Any

import sqlalchemy as sa

from core import errors
from core.db.expressions import IMAGES, JOBS, RESULTS, is_job_of
from core.db.queries import deletions


def get(conn: sa.Connection, image_id: int, owner: str | None) -> sa.Row[Any]:
    """Return an image's digest, its place in a source if it has one, and its error; `owner` None sees every key's.

    Raises:
        errors.ImageNotFound: the owner has no such image.
        errors.ImageGone: it was deleted, or its job was purged.
    """
    query: sa.Select[Any] = (
        sa.select(
            *(IMAGES.c.sha256, IMAGES.c.source, IMAGES.c.location, IMAGES.c.bytes),
            *(RESULTS.c.error_code, RESULTS.c.error_detail, JOBS.c.purged_at),
        )
        .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
        .outerjoin(RESULTS, RESULTS.c.image_id == IMAGES.c.id)
        .where(IMAGES.c.id == image_id, *is_job_of(owner))
    )
    row = conn.execute(query).one_or_none()
    if row is None:
        deletions.require_not_deleted(conn, image_id, owner)
        raise errors.ImageNotFound.of(image_id)
    if row.purged_at is not None:
        raise errors.ImageGone
    return row
