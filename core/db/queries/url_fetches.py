"""URL fetches: images whose bytes the dispatcher fetches; until then no worker claims them."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from core import enums
from core.db import clock, leases
from core.db.expressions import API_KEYS, IMAGES, IS_QUEUED, JOBS, URL_FETCHES
from core.db.new_image import URL_SOURCE, NewImage
from core.db.queries import claims, jobs, new_images

LEASES = leases.LeasedTable(URL_FETCHES)
has_due = LEASES.has_due
count_overdue = LEASES.count_overdue
MAX_ATTEMPTS = 5
FETCHER_NAME = "dispatcher"  # as the worker of an image that could not be fetched


@dataclass(frozen=True)
class Claim:
    """A fetch that a dispatcher holds until its lease ends."""

    id: str
    image_id: int
    job_id: str
    name: str
    url: str
    attempts: int
    """With this one."""
    owner: str
    lease_until: datetime


def copy_to_retry(conn: sa.Connection, job_id: str, retry_id: str) -> None:
    """Insert the fetches of a job that retries images whose bytes were not fetched."""
    retried = IMAGES.alias("retried")
    query = (
        sa.select(retried.c.id, URL_FETCHES.c.url)
        .join(IMAGES, IMAGES.c.id == URL_FETCHES.c.image_id)
        .join(retried, sa.and_(retried.c.job_id == retry_id, retried.c.name == IMAGES.c.name))
        .where(IMAGES.c.job_id == job_id, retried.c.source == URL_SOURCE)
    )
    new_images.insert_fetches(conn, {row.id: row.url for row in conn.execute(query)})


def claim(conn: sa.Connection, *, limit: int) -> list[Claim]:
    """Claim up to `limit` due fetches, those first that have been due longest; those of ended images end too."""
    values = {"attempts": URL_FETCHES.c.attempts + 1}
    ids = [row.id for row in LEASES.claim(conn, limit=limit, returning=[URL_FETCHES.c.id], values=values)]
    is_needed = sa.exists().where(IMAGES.c.id == URL_FETCHES.c.image_id, IS_QUEUED)
    unneeded = sa.update(URL_FETCHES).where(URL_FETCHES.c.id.in_(ids), ~is_needed)
    conn.execute(unneeded.values(leases.final_values(enums.DeliveryStatus.FAILED)))
    columns = [URL_FETCHES.c[name] for name in ("id", "image_id", "url", "attempts", "lease_until")]
    rows = conn.execute(
        sa.select(*columns, IMAGES.c.job_id, IMAGES.c.name, API_KEYS.c.id.label("owner"))
        .join(IMAGES, IMAGES.c.id == URL_FETCHES.c.image_id)
        .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
        .join(API_KEYS, API_KEYS.c.id == JOBS.c.api_key_id)
        .where(URL_FETCHES.c.id.in_(ids), LEASES.is_pending)
    )
    return [Claim(**row._mapping) for row in rows]  # noqa: SLF001 (public, in spite of its name)


def store(conn: sa.Connection, claim: Claim, image: NewImage) -> None:
    """Record the fetched bytes of an image, which workers may then claim; or fail it if its header check did.

    Does nothing if the lease was lost, or the image was cancelled or has expired.
    """
    if image.error is not None:
        fail(conn, claim, image.error.code, image.error.detail)
        return
    jobs.lock(conn, [claim.job_id])
    if not _finish(conn, claim, enums.DeliveryStatus.DELIVERED):
        return
    update = sa.update(IMAGES).where(IMAGES.c.id == claim.image_id, IS_QUEUED)
    if conn.execute(update.values(sha256=image.sha256, bytes=image.bytes, source=None)).rowcount:
        conn.execute(sa.update(JOBS).where(JOBS.c.id == claim.job_id).values(bytes=JOBS.c.bytes + image.bytes))


def fail(conn: sa.Connection, claim: Claim, code: str, detail: str) -> None:
    """Fail an image whose bytes cannot be fetched; does nothing if the lease was lost or the image has ended."""
    jobs.lock(conn, [claim.job_id])
    if not _finish(conn, claim, enums.DeliveryStatus.FAILED):
        return
    running = {"status": enums.Status.RUNNING, "attempt": 1, "worker": FETCHER_NAME, "claimed_at": clock.now()}
    update = sa.update(IMAGES).where(IMAGES.c.id == claim.image_id, IS_QUEUED).values(running)
    row = conn.execute(update.returning(*claims.CLAIM_COLUMNS, IMAGES.c.model_name)).one_or_none()
    if row is not None:
        *columns, model_name = row
        outcome = claims.Outcome(claims.Claim(*columns), error_code=code, error_detail=detail)
        claims.finish(conn, [outcome], claims.ModelRef(model_name))


def retry_later(conn: sa.Connection, claim: Claim, *, seconds: float) -> None:
    """End the lease; the fetch is due again after so many seconds."""
    values = {"lease_until": None, "next_attempt_at": clock.now(seconds)}
    conn.execute(sa.update(URL_FETCHES).where(LEASES.is_held(claim)).values(values))


def _finish(conn: sa.Connection, claim: Claim, status: enums.DeliveryStatus) -> bool:
    """End the fetch; return False if its lease was lost."""
    update = sa.update(URL_FETCHES).where(LEASES.is_held(claim)).values(leases.final_values(status))
    return bool(conn.execute(update).rowcount)
