"""Scans: how a job is filled from a source, page by page, by whoever holds the lease."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from jobs import clock, errors
from jobs.store import incoming, jobs, keys, quotas
from jobs.store.sql import JOBS, KEYS, SCANNING, SCANS
from jobs.tables import ScanStatus

LEASE_SECONDS = 60.0  # a page takes a few seconds
LATE_SECONDS = 60.0  # what is due for so long is nobody's care
MOST_VAIN = 12
CLAIMED = ("id", "job_id", "source", "prefix", "include", "exclude", "cursor", "vain", "lease_until")


@dataclass(frozen=True)
class NewScan:
    """What a job is to be filled from."""

    source: str
    prefix: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    seals: bool = True


@dataclass(frozen=True)
class Claim:
    """A scan that a scanner has in hand until its lease ends; the lease is the fence."""

    id: str
    job_id: str
    source: str
    prefix: str
    include: Sequence[str]
    exclude: Sequence[str]
    cursor: str | None
    vain: int
    lease_until: datetime
    owner: str
    priority: int
    limits: quotas.Quotas
    welcome: bool
    """Whether its owner's key is still valid."""


@dataclass(frozen=True)
class Page:
    """What a scanner has seen since the last one: pictures, how many files it left alone, and up to where."""

    images: Sequence[incoming.NewImage]
    skipped: int
    cursor: str | None


class Lost(Exception):
    """The lease was lost, or the scan has ended: nothing of this page was taken."""


def order(c: sa.Connection, job_id: str, owner: str, new: NewScan) -> None:
    """Have an open job filled from a source; the same again changes nothing.

    Raises:
        errors.JobNotFound: there is no such job of this owner.
        errors.JobSealed: the job takes no more.
        errors.ScanTaken: it is filled from another place, or was.
    """
    job = jobs.locked(c, job_id, owner)
    values = {"source": new.source, "prefix": new.prefix, "include": list(new.include), "exclude": list(new.exclude)}
    there = c.execute(sa.select(SCANS).where(SCANS.c.job_id == job_id)).one_or_none()
    if there is not None:
        if any(getattr(there, name) != value for name, value in values.items()):
            raise errors.ScanTaken
        return
    if job.sealed_at is not None:
        raise errors.JobSealed
    counts = {"found": 0, "skipped": 0, "vain": 0}
    moments = {"next_at": clock.now(), "created_at": clock.now()}
    row = {"id": str(uuids.uuid7()), "job_id": job_id, "seals": new.seals, "status": ScanStatus.PENDING.value}
    c.execute(sa.insert(SCANS).values(row | values | counts | moments))


def is_due(c: sa.Connection) -> bool:
    """Whether anything could be claimed."""
    return c.execute(sa.select(SCANS.c.id).where(*_due()).limit(1)).scalar() is not None


def claim(c: sa.Connection, *, limit: int) -> list[Claim]:
    """Take up to `limit` scans that are due, those first that have waited longest."""
    picked = sa.select(SCANS.c.id).where(*_due()).order_by(SCANS.c.next_at).limit(limit)
    locked = picked.with_for_update(skip_locked=True).cte("picked")
    taken = sa.update(SCANS).where(SCANS.c.id.in_(sa.select(locked.c.id)))
    ids = c.execute(taken.values(lease_until=clock.now(LEASE_SECONDS)).returning(SCANS.c.id)).scalars().all()
    rows = c.execute(
        sa.select(*[SCANS.c[name] for name in CLAIMED], JOBS.c.priority, KEYS.c.id.label("owner"), *_limits())
        .join(JOBS, JOBS.c.id == SCANS.c.job_id)
        .join(KEYS, KEYS.c.id == JOBS.c.owner)
        .where(SCANS.c.id.in_(ids))
    ).all()
    welcome = keys.good(c, {row.owner for row in rows})
    return [
        Claim(
            **{name: getattr(row, name) for name in (*CLAIMED, "owner", "priority")},
            limits=quotas.Quotas.of(row),
            welcome=row.owner in welcome,
        )
        for row in rows
    ]


def take(c: sa.Connection, claimed: Claim, page: Page, own: quotas.Quotas) -> Claim:
    """Put a page's pictures into the job, and note how far the scan is; the claim with its new lease.

    Whoever is killed before has done nothing, and whoever is killed after has done it once.

    Raises:
        Lost: the lease was lost, or there is nothing more to be filled.
        errors.Later, errors.TooManyImages: the owner's quotas do not allow it.
    """
    if own.limited:
        quotas.lock(c, claimed.owner)
    _hold(c, claimed)
    try:
        jobs.add(c, claimed.job_id, claimed.owner, page.images, own)
    except errors.JobSealed:
        raise Lost from None
    values = {
        "cursor": page.cursor,
        "found": SCANS.c.found + len(page.images),
        "skipped": SCANS.c.skipped + page.skipped,
        "vain": 0,
        "error": None,
        "lease_until": clock.now(LEASE_SECONDS),
    }
    noted = sa.update(SCANS).where(SCANS.c.id == claimed.id).values(values).returning(SCANS.c.lease_until)
    return replace(claimed, cursor=page.cursor, vain=0, lease_until=c.execute(noted).scalar_one())


def put_back(c: sa.Connection, claimed: Claim, *, seconds: float = 0.0, error: str | None = None) -> None:
    """Let a scan wait for its next turn; with an error, that is what it waits for."""
    values = {"lease_until": None, "next_at": clock.now(seconds), "error": error and error[:500]}
    c.execute(sa.update(SCANS).where(*_held(claimed)).values(values))


def fail_for_now(c: sa.Connection, claimed: Claim, error: str) -> None:
    """Note that nothing came of it: it is tried again, ever later, and at last it has failed."""
    if claimed.vain + 1 >= MOST_VAIN:
        end(c, claimed, ScanStatus.FAILED, error)
        return
    put_back(c, claimed, seconds=min(2.0 ** (claimed.vain + 1), 600.0), error=error)
    c.execute(sa.update(SCANS).where(SCANS.c.id == claimed.id, SCANNING).values(vain=claimed.vain + 1))


def end(c: sa.Connection, claimed: Claim, status: ScanStatus, error: str | None = None) -> None:
    """End a scan; its job is sealed, if that was wanted. Does nothing if the lease was lost."""
    try:
        seals = _hold(c, claimed)
    except (Lost, errors.JobPurged):
        return
    values = {"status": status.value, "error": error and error[:500], "next_at": None, "lease_until": None}
    c.execute(sa.update(SCANS).where(SCANS.c.id == claimed.id).values(values | {"ended_at": clock.now()}))
    if seals:
        jobs.seal(c, claimed.job_id, claimed.owner)


def overdue(c: sa.Connection) -> int:
    """How many have been due for so long that no scanner can be at work; behind those in hand the line may be long."""
    if c.execute(sa.select(SCANS.c.id).where(SCANNING, SCANS.c.lease_until > clock.now()).limit(1)).first():
        return 0
    late = _due(clock.now(-LATE_SECONDS))
    return int(c.execute(sa.select(sa.func.count()).select_from(SCANS).where(*late)).scalar_one())


def _hold(c: sa.Connection, claimed: Claim) -> bool:
    """Lock the job, as everywhere before what is of it, then the scan, if it is still ours; whether it seals."""
    jobs.locked(c, claimed.job_id, claimed.owner)
    seals = c.execute(sa.select(SCANS.c.seals).where(*_held(claimed)).with_for_update()).scalar()
    if seals is None:
        raise Lost
    return bool(seals)


def _held(claimed: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return SCANS.c.id == claimed.id, SCANNING, SCANS.c.lease_until == claimed.lease_until


def _limits() -> list[Any]:
    return [KEYS.c[name] for name in quotas.NAMES]


def _due(now: clock.Now | None = None) -> tuple[sa.ColumnElement[bool], ...]:
    now = clock.now() if now is None else now
    return SCANNING, SCANS.c.next_at <= now, sa.or_(SCANS.c.lease_until.is_(None), SCANS.c.lease_until <= now)
