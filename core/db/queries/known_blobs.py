"""Known blobs: what an owner has uploaded need not be uploaded again, and no owner learns what others have."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import sqlalchemy as sa

from core import errors
from core.db.expressions import IMAGES, IS_REJECTED, MODELS, parameter_rows
from core.db.new_image import NewImage

MAX_CANDIDATES = 100
"""How many images of the same bytes and key, the newest, are looked at for one that was not rejected."""
DIGESTS = parameter_rows("digests")
HAS_DIGEST: sa.ColumnElement[bool] = IMAGES.c.sha256 == DIGESTS.c.value
# In the order of the index by digests: else PostgreSQL might walk another, or all images, if many have the same bytes.
NEWEST_FIRST = [IMAGES.c[name].desc() for name in ("source", "api_key_id", "id")]


def find_known(conn: sa.Connection, owner: str, digests: Iterable[str]) -> dict[str, int]:
    """Return those of these SHA-256 that this owner has uploaded, with their sizes in bytes.

    Images in a source do not count: they may be gone from there.
    """
    is_own = (HAS_DIGEST, IMAGES.c.source.is_(None), IMAGES.c.api_key_id == owner)
    newest = sa.select(IMAGES.c.bytes, IS_REJECTED.label("is_rejected")).where(*is_own).order_by(*NEWEST_FIRST)
    candidates = newest.limit(MAX_CANDIDATES).correlate(DIGESTS).lateral()
    sizes = _look_up(conn, digests, sa.select(candidates.c.bytes).where(~candidates.c.is_rejected))
    return {digest: size for digest, size in sizes.items() if size is not None}


def lock_stored(conn: sa.Connection, digests: AbstractSet[str]) -> AbstractSet[str]:
    """Lock stored blobs, by SHA-256, against removal until the transaction ends; return the digests that are gone.

    It locks one row with the digest, of whichever owner: blobs are removed after their last row, and the new row is
    committed before. To be called before the transaction locks anything else, so that two cannot deadlock here.
    """
    if not digests:
        return digests
    is_stored = (HAS_DIGEST, IMAGES.c.source.is_(None), ~IS_REJECTED)
    found = _look_up(conn, digests, _newest_id(*is_stored))
    newest = {digest: image_id for digest, image_id in found.items() if image_id is not None}
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
    uploads = _look_up(conn, candidates, _newest_id(HAS_DIGEST, IMAGES.c.source.is_(None)))
    return {digest for digest in candidates - model_digests if uploads[digest] is None}


def without_images(conn: sa.Connection, digests: Iterable[str]) -> set[str]:
    """Return those of these SHA-256 that no image has any more, uploaded or in a source."""
    images = _look_up(conn, digests, _newest_id(HAS_DIGEST))
    return {digest for digest, image_id in images.items() if image_id is None}


def _newest_id(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(IMAGES.c.id).where(*conditions).order_by(*NEWEST_FIRST)


def _look_up(conn: sa.Connection, digests: Iterable[str], query: sa.Select[Any]) -> dict[str, Any]:
    """Return for each of these digests the first value that a query finds for it, or None.

    By one index probe for each, however many images have the same bytes.
    """
    found = query.limit(1).correlate(DIGESTS).scalar_subquery()
    rows = conn.execute(sa.select(DIGESTS.c.value, found), {"digests": list(digests)})
    return {row[0]: row[1] for row in rows}
