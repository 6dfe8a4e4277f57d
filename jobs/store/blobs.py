"""Whose bytes are known: what an owner has sent once need not be sent again, and nobody learns what others have."""

from collections.abc import Iterable

import sqlalchemy as sa

from jobs.store.sql import IMAGES, JOBS, MODELS, REFUSED, aside


def known(c: sa.Connection, owner: str, digests: Iterable[str]) -> dict[str, int]:
    """Those of these SHA-256 that this owner has sent and that were stored, with their sizes in bytes.

    What only lies in a source was not: it may be gone from there.
    """
    query = (
        sa.select(IMAGES.c.sha256, IMAGES.c.bytes)
        .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
        .where(IMAGES.c.sha256.in_(list(digests)), aside(JOBS.c.owner) == owner, ~REFUSED, IMAGES.c.source.is_(None))
        .distinct()
    )
    return {row.sha256: row.bytes for row in c.execute(query)}


def unused(c: sa.Connection, digests: Iterable[str]) -> set[str]:
    """Those of these SHA-256 that no image has any more whose bytes lie among the blobs, and no model.

    A file of a model may be sent as a picture.
    """
    wanted = set(digests)
    files = c.execute(sa.select(MODELS.c.files).where(MODELS.c.files.is_not(None))).scalars()
    of_models = {digest for digests_ in files for digest in digests_.values()}
    used = sa.select(IMAGES.c.sha256).where(IMAGES.c.sha256.in_(wanted), IMAGES.c.source.is_(None))
    return wanted - of_models - set(c.execute(used).scalars())
