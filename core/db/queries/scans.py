"""Source imports ("scans"): a job is filled from a source, page by page, by the holder of the scan's lease."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import errors
from core.db import clock, task_leases
from core.db.expressions import API_KEYS, JOBS, SCANS
from core.db.new_image import NewImage
from core.db.queries import api_keys, jobs, quotas
from core.enums import ScanStatus

LEASES = task_leases.LeasedTable(SCANS)
has_due = LEASES.has_due
MAX_FAILURES = 12
MAX_ERROR_LENGTH = 500
DISPATCHER_LOST = "The dispatcher ended or failed while it read the source; its log may say why."
MAX_LEFT_OUT = 20  # files of a scan whose names are stored


@dataclass(frozen=True)
class NewScan:
    """The source and the filters a job is to be filled from."""

    source: str
    prefix: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    seal_when_done: bool = True


@dataclass(frozen=True)
class Claim:
    """A scan that an importer holds until its lease ends."""

    id: str
    job_id: str
    source: str
    prefix: str
    include: Sequence[str]
    exclude: Sequence[str]
    cursor: str | None
    consecutive_failures: int
    lease_until: datetime
    owner: str
    priority: int
    limits: quotas.Quotas
    is_key_valid: bool
    """Whether the owner's key is still valid."""


CLAIM_NAMES = [field.name for field in fields(Claim) if field.name in SCANS.c]


@dataclass(frozen=True)
class LeftOut:
    """A file that was left out although it may be an image, or contain some, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ScanPage:
    """The next images of a source, the files that were skipped, and the path up to which this goes."""

    images: Sequence[NewImage]
    skipped: Mapping[str, int]
    """The number of files by reason."""
    left_out: Sequence[LeftOut]
    """Those of the skipped files that may be images."""
    cursor: str | None


class LeaseLost(Exception):
    """The lease was lost, or the scan has ended: nothing of the page was written."""


def create(conn: sa.Connection, job_id: str, owner: str, scan: NewScan) -> None:
    """Start to fill an open job from a source; the same scan again changes nothing.

    Raises:
        errors.JobNotFound: the owner has no such job.
        errors.JobSealed: the job is sealed.
        errors.ScanConflict: the job has another scan.
    """
    job = jobs.get_for_update(conn, job_id, owner)
    values: dict[str, Any] = {
        "source": scan.source,
        "prefix": scan.prefix,
        "include": list(scan.include),
        "exclude": list(scan.exclude),
    }
    existing = conn.execute(sa.select(SCANS).where(SCANS.c.job_id == job_id)).one_or_none()
    if existing is not None:
        if any(getattr(existing, name) != value for name, value in values.items()):
            location = "/".join(filter(None, (existing.source, existing.prefix)))
            raise errors.ScanConflict(f"Job {job_id} is already filled from {location}; one job has one import.")
        return
    if job.sealed_at is not None:
        raise errors.JobSealed.of(job_id)
    values |= {"id": str(uuids.uuid7()), "job_id": job_id, "seal_when_done": scan.seal_when_done}
    values |= {"status": ScanStatus.PENDING.value, "found": 0, "skipped": 0, "consecutive_failures": 0}
    conn.execute(sa.insert(SCANS).values(values | {"next_attempt_at": clock.now(), "created_at": clock.now()}))


def claim(conn: sa.Connection, *, limit: int, exclude_ids: Collection[str] = ()) -> list[Claim]:
    """Claim up to `limit` due scans without those of `exclude_ids`, those first that have waited longest."""
    is_other = SCANS.c.id.not_in(list(exclude_ids))
    ids = [row.id for row in LEASES.claim(conn, is_other, limit=limit, returning=[SCANS.c.id])]
    return _select_claims(conn, SCANS.c.id.in_(ids))


def record_lost(conn: sa.Connection, *, exclude_ids: Collection[str] = ()) -> list[Claim]:
    """Record a failure of each scan whose lease has ended while it was held, without those of `exclude_ids`.

    So a scan that ends its dispatchers, or always fails, is not repeated for ever. Return the lost claims.
    """
    is_lost = (LEASES.is_due(), SCANS.c.lease_until.is_not(None), SCANS.c.id.not_in(list(exclude_ids)))
    lost = _select_claims(conn, *is_lost)
    for claim in lost:
        record_failure(conn, claim, DISPATCHER_LOST)
    return lost


def _select_claims(conn: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Claim]:
    columns = [SCANS.c[name] for name in CLAIM_NAMES]
    columns += [JOBS.c.priority, API_KEYS.c.id.label("owner"), *(API_KEYS.c[name] for name in quotas.FIELD_NAMES)]
    rows = conn.execute(
        sa.select(*columns)
        .join(JOBS, JOBS.c.id == SCANS.c.job_id)
        .join(API_KEYS, API_KEYS.c.id == JOBS.c.api_key_id)
        .where(*conditions)
        .order_by(SCANS.c.next_attempt_at, SCANS.c.id)
    ).all()
    valid_keys = api_keys.valid_ids(conn, {row.owner for row in rows})
    return [
        Claim(
            **{name: getattr(row, name) for name in (*CLAIM_NAMES, "owner", "priority")},
            limits=quotas.Quotas.from_row(row),
            is_key_valid=row.owner in valid_keys,
        )
        for row in rows
    ]


def store_page(conn: sa.Connection, claim: Claim, page: ScanPage, limits: quotas.Quotas) -> Claim:
    """Add a page's images to the job and advance the cursor, in one transaction. Return the claim with its new lease.

    Raises:
        LeaseLost: the lease was lost, or the job takes no more images.
        errors.TemporarilyRejected, errors.TooManyImages: the owner's quotas do not allow it.
    """
    if limits.is_limited:
        quotas.lock_key(conn, claim.owner)
    _lock_held(conn, claim)
    reports = conn.execute(sa.select(SCANS.c.skipped_by_reason, SCANS.c.left_out).where(SCANS.c.id == claim.id)).one()
    left_out = [*(reports.left_out or []), *({"name": one.name, "reason": one.reason} for one in page.left_out)]
    try:
        jobs.add_images(conn, claim.job_id, claim.owner, page.images, limits)
    except errors.JobSealed:
        raise LeaseLost from None
    values = {
        "cursor": page.cursor,
        "found": SCANS.c.found + len(page.images),
        "skipped": SCANS.c.skipped + sum(page.skipped.values()),
        "skipped_by_reason": dict(Counter(reports.skipped_by_reason or {}) + Counter(page.skipped)),
        "left_out": left_out[:MAX_LEFT_OUT],
        "consecutive_failures": 0,
        "error": None,
        "lease_until": clock.now(task_leases.LEASE_SECONDS),
    }
    update = sa.update(SCANS).where(SCANS.c.id == claim.id).values(values).returning(SCANS.c.lease_until)
    lease_until = conn.execute(update).scalar_one()
    return replace(claim, cursor=page.cursor, consecutive_failures=0, lease_until=lease_until)


def extend_lease(conn: sa.Connection, claim: Claim) -> Claim:
    """Extend the lease. Return the claim with its new lease; unchanged if the lease was lost, or the scan has ended."""
    values = {"lease_until": clock.now(task_leases.LEASE_SECONDS)}
    update = sa.update(SCANS).where(LEASES.is_held(claim)).values(values).returning(SCANS.c.lease_until)
    return replace(claim, lease_until=conn.execute(update).scalar() or claim.lease_until)


def release(conn: sa.Connection, claim: Claim, *, seconds: float = 0.0, error: str | None = None) -> None:
    """End the lease; the scan is due again after so many seconds. `error` is the reason of the delay."""
    _reschedule(conn, claim, seconds, error, claim.consecutive_failures)


def record_failure(conn: sa.Connection, claim: Claim, error: str) -> None:
    """Schedule a retry with exponential backoff; after `MAX_FAILURES` in a row the scan fails."""
    failures = claim.consecutive_failures + 1
    if failures >= MAX_FAILURES:
        finish(conn, claim, ScanStatus.FAILED, error)
        return
    _reschedule(conn, claim, min(2.0**failures, 600.0), error, failures)


def _reschedule(conn: sa.Connection, claim: Claim, seconds: float, error: str | None, failures: int) -> None:
    values = {"lease_until": None, "next_attempt_at": clock.now(seconds), "error": error and error[:MAX_ERROR_LENGTH]}
    update = sa.update(SCANS).where(LEASES.is_held(claim))
    conn.execute(update.values(values | {"consecutive_failures": failures}))


def finish(conn: sa.Connection, claim: Claim, status: ScanStatus, error: str | None = None) -> None:
    """End a scan, and seal its job if that was requested. Does nothing if the lease was lost."""
    try:
        seal_when_done = _lock_held(conn, claim)
    except LeaseLost:
        return
    values = task_leases.final_values(status) | {"error": error and error[:MAX_ERROR_LENGTH]}
    conn.execute(sa.update(SCANS).where(SCANS.c.id == claim.id).values(values))
    if seal_when_done:
        jobs.seal(conn, claim.job_id, claim.owner)


def count_overdue(conn: sa.Connection) -> int:
    """Count the overdue scans; none are while any is leased, because scans queue behind each other."""
    leased = sa.select(SCANS.c.id).where(LEASES.is_pending, SCANS.c.lease_until > clock.now()).limit(1)
    return 0 if conn.execute(leased).first() else LEASES.count_overdue(conn)


def _lock_held(conn: sa.Connection, claim: Claim) -> bool:
    """Lock the job, then the scan if its lease was not lost. Return whether the job is to be sealed at the end.

    Raises:
        LeaseLost: the lease was lost, or the job was deleted.
    """
    try:
        jobs.get_for_update(conn, claim.job_id, claim.owner)  # the job first, as everywhere: no deadlocks
    except errors.JobPurged:
        raise LeaseLost from None
    held = sa.select(SCANS.c.seal_when_done).where(LEASES.is_held(claim)).with_for_update()
    seal_when_done = conn.execute(held).scalar()
    if seal_when_done is None:
        raise LeaseLost
    return bool(seal_when_done)
