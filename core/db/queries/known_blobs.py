"""Known blobs: what an owner has uploaded need not be uploaded again, and no owner learns what others have."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import sqlalchemy as sa

from core import errors
from core.db.expressions import IMAGES, IS_REJECTED, JOBS, MODELS, no_index
from core.db.new_image import NewImage


def find_known(conn: sa.Connection, owner: str, digests: Iterable[str]) -> dict[str, int]:
    """Return those of these SHA-256 that this owner has uploaded, with their sizes in bytes.

    Images in a source do not count: they may be gone from there.
    """
    query = (
        sa.select(IMAGES.c.sha256, IMAGES.c.bytes)
        .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
        .where(
            IMAGES.c.sha256.in_(list(digests)),
            no_index(JOBS.c.api_key_id) == owner,
            ~IS_REJECTED,
            IMAGES.c.source.is_(None),
        )
        .distinct()
    )
    return {row.sha256: row.bytes for row in conn.execute(query)}


def lock_stored(conn: sa.Connection, digests: AbstractSet[str]) -> AbstractSet[str]:
    """Lock stored blobs, by SHA-256, against removal until the transaction ends; return the digests that are gone.

    It locks a row with the digest, of whichever owner: blobs are removed after their last row, and the new row is
    committed before. To be called before the transaction locks anything else, so that two cannot deadlock here.
    """
    if not digests:
        return digests
    is_stored = (IMAGES.c.sha256.in_(digests), ~IS_REJECTED, IMAGES.c.source.is_(None))
    newest_id = sa.func.max(IMAGES.c.id).label("id")
    newest_query = sa.select(IMAGES.c.sha256, newest_id).where(*is_stored).group_by(IMAGES.c.sha256)
    newest = {row.sha256: row.id for row in conn.execute(newest_query)}
    gone = digests - newest.keys()
    if conn.dialect.name == "sqlite":  # its writing transactions are serial
        return gone
    query = sa.select(IMAGES.c.sha256).where(IMAGES.c.id.in_(newest.values())).order_by(IMAGES.c.id)
    held = conn.execute(query.with_for_update(read=True, key_share=True)).scalars()
    # A row may have been deleted meanwhile, and older ones have the digest too.
    return gone | lock_stored(conn, newest.keys() - set(held))


def require_stored(images: Sequence[NewImage], gone: AbstractSet[str]) -> None:
    """Check that none of these images refers to bytes that are gone.

    Raises:
        errors.UnknownBlob: some do.
    """
    unknown = [(image.reference, image.name) for image in images if image.reference and image.sha256 in gone]
    if unknown:
        raise errors.UnknownBlob.of_images(unknown)


def unreferenced(conn: sa.Connection, digests: Iterable[str]) -> set[str]:
    """Return those of these SHA-256 that neither an uploaded image nor a model refers to any more.

    A file of a model may have been uploaded as an image.
    """
    candidates = set(digests)
    files = conn.execute(sa.select(MODELS.c.files).where(MODELS.c.files.is_not(None))).scalars()
    model_digests = {digest for file_digests in files for digest in file_digests.values()}
    referenced = sa.select(IMAGES.c.sha256).where(IMAGES.c.sha256.in_(candidates), IMAGES.c.source.is_(None))
    return candidates - model_digests - set(conn.execute(referenced).scalars())


def without_images(conn: sa.Connection, digests: Iterable[str]) -> set[str]:
    """Return those of these SHA-256 that no image has any more, uploaded or in a source."""
    candidates = set(digests)
    return candidates - set(conn.execute(sa.select(IMAGES.c.sha256).where(IMAGES.c.sha256.in_(candidates))).scalars())
