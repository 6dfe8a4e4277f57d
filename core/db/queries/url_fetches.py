"""URL fetches: images whose bytes the dispatcher fetches; until then no worker claims them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from core import enums
from core.db import clock, task_leases
from core.db.expressions import IMAGES, IS_QUEUED, JOBS, URL_FETCHES, any_of, distinct_values, no_index
from core.db.new_image import URL_SOURCE, NewImage
from core.db.queries import claims, jobs, new_images

LEASES = task_leases.LeasedTable(URL_FETCHES)
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
    """With this one. More than `MAX_ATTEMPTS`: the dispatcher was lost during the last, and no other is to be made."""
    owner: str
    lease_until: datetime


def copy_to_retry(conn: sa.Connection, job_id: str, retry_id: str, image_ids: Sequence[int]) -> None:
    """Insert the fetches of a job into which these images of another were copied, if their bytes were not fetched."""
    retried = IMAGES.alias("retried")
    query = (
        sa.select(retried.c.id, URL_FETCHES.c.url, JOBS.c.api_key_id)
        .join(IMAGES, IMAGES.c.id == URL_FETCHES.c.image_id)
        .join(retried, sa.and_(retried.c.job_id == retry_id, retried.c.name == IMAGES.c.name))
        .join(JOBS, JOBS.c.id == retried.c.job_id)
        .where(any_of(IMAGES.c.id, "ids"), no_index(IMAGES.c.job_id) == job_id, retried.c.source == URL_SOURCE)
    )
    fetches = conn.execute(query, {"ids": list(image_ids)})
    new_images.insert_fetches(conn, [(row.id, row.url, row.api_key_id) for row in fetches])


def claim(
    conn: sa.Connection, *, limit: int, max_per_owner: int, in_flight: Mapping[str, int] | None = None
) -> list[Claim]:
    """Claim up to `limit` due fetches, so that no key has more than `max_per_owner` with those `in_flight`.

    The keys with the fewest come first, then those whose fetches have been due longest. Fetches of images that have
    ended meanwhile end too.
    """
    held = in_flight or {}
    claimed: list[Claim] = []
    owners = [owner for owner in _due_owners(conn) if held.get(owner, 0) < max_per_owner]
    for owner in sorted(owners, key=lambda owner: held.get(owner, 0)):
        if (free_slots := limit - len(claimed)) > 0:
            claimed += _claim_of(conn, owner, min(free_slots, max_per_owner - held.get(owner, 0)))
    return claimed


def _due_owners(conn: sa.Connection) -> list[str]:
    """Return the keys with due fetches, those first that have waited longest; an index probe for each key."""
    owner = URL_FETCHES.c.api_key_id
    owner_of_image = sa.select(JOBS.c.api_key_id).join(IMAGES, IMAGES.c.job_id == JOBS.c.id)
    owner_of_image = owner_of_image.where(IMAGES.c.id == URL_FETCHES.c.image_id)
    adopt = sa.update(URL_FETCHES).where(LEASES.is_pending, owner.is_(None))
    conn.execute(adopt.values(api_key_id=owner_of_image.scalar_subquery()))
    owners = distinct_values(owner, LEASES.is_pending)
    # The owner is in the order too, else PostgreSQL might walk the fetches of all keys.
    due_at = sa.select(URL_FETCHES.c.next_attempt_at).where(LEASES.is_due(), owner == owners.c.value)
    due_at = due_at.order_by(owner, URL_FETCHES.c.next_attempt_at).limit(1).correlate(owners)
    rows = conn.execute(sa.select(owners.c.value, due_at.scalar_subquery().label("due_at"))).all()
    return [row.value for row in sorted((row for row in rows if row.due_at), key=lambda row: row.due_at)]


def _claim_of(conn: sa.Connection, owner: str, limit: int) -> list[Claim]:
    is_owned = URL_FETCHES.c.api_key_id == owner
    values = {"attempts": URL_FETCHES.c.attempts + 1}
    ids = [row.id for row in LEASES.claim(conn, is_owned, limit=limit, returning=[URL_FETCHES.c.id], values=values)]
    is_needed = sa.exists().where(IMAGES.c.id == URL_FETCHES.c.image_id, IS_QUEUED)
    unneeded = sa.update(URL_FETCHES).where(URL_FETCHES.c.id.in_(ids), ~is_needed)
    conn.execute(unneeded.values(task_leases.final_values(enums.DeliveryStatus.FAILED)))
    columns = [URL_FETCHES.c[name] for name in ("id", "image_id", "url", "attempts", "lease_until")]
    rows = conn.execute(
        sa.select(*columns, IMAGES.c.job_id, IMAGES.c.name, URL_FETCHES.c.api_key_id.label("owner"))
        .join(IMAGES, IMAGES.c.id == URL_FETCHES.c.image_id)
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


def retry_later(conn: sa.Connection, claim: Claim, *, seconds: float, is_counted: bool = True) -> None:
    """End the lease; the fetch is due again after so many seconds. The attempt is taken back unless it is counted."""
    attempts = URL_FETCHES.c.attempts - (0 if is_counted else 1)
    values = {"lease_until": None, "next_attempt_at": clock.now(seconds), "attempts": attempts}
    conn.execute(sa.update(URL_FETCHES).where(LEASES.is_held(claim)).values(values))


def _finish(conn: sa.Connection, claim: Claim, status: enums.DeliveryStatus) -> bool:
    """End the fetch; return False if its lease was lost."""
    update = sa.update(URL_FETCHES).where(LEASES.is_held(claim)).values(task_leases.final_values(status))
    return bool(conn.execute(update).rowcount)
