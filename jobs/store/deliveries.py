"""Deliveries: that somebody is to be told of a job's end, and what has become of telling."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from jobs import clock, errors, webhooks
from jobs.store.sql import DELIVERIES
from jobs.tables import DeliveryStatus

LEASE_SECONDS = 60.0  # an attempt takes a quarter of it at most
LATE_SECONDS = 60.0  # what is due for so long is nobody's care
# Written out, not bound: a partial index serves only a query whose text shows its condition.
PENDING: sa.ColumnElement[bool] = DELIVERIES.c.status == sa.literal_column("'pending'")
CLAIMED = [DELIVERIES.c[name] for name in ("id", "job_id", "owner", "event", "url", "attempts", "lease_until")]


@dataclass(frozen=True)
class Claim:
    """A delivery that a courier has in hand until its lease ends; the lease is the fence."""

    id: str
    job_id: str
    owner: str
    event: str
    url: str
    attempts: int
    """With this one."""
    lease_until: datetime


def announce(c: sa.Connection, ended: Iterable[sa.Row[Any]]) -> None:
    """Note for each of these jobs, which have ended in this transaction, who is to be told."""
    rows = [
        {"id": str(uuids.uuid7()), "job_id": job.id, "owner": job.owner, "url": job.webhook}
        for job in ended
        if job.webhook is not None
    ]
    if rows:
        new = sa.insert(DELIVERIES).values(next_at=clock.now(), created_at=clock.now())
        c.execute(new.values(event=webhooks.COMPLETED, status=DeliveryStatus.PENDING.value, attempts=0), rows)


def is_due(c: sa.Connection) -> bool:
    """Whether anything could be claimed."""
    return c.execute(sa.select(DELIVERIES.c.id).where(*_due()).limit(1)).scalar() is not None


def claim(c: sa.Connection, *, limit: int, each: int, but: Iterable[str] = ()) -> list[Claim]:
    """Take up to `limit` deliveries that are due, at most `each` of one owner; the taker must `note` what came of them.

    Of the owners `but`, who keep the courier busy enough, none is taken. What was lost with its courier at the last
    attempt has failed.
    """
    spent = sa.update(DELIVERIES).where(*_due(), DELIVERIES.c.attempts >= len(webhooks.DELAYS))
    lost = "The courier was lost at the last attempt."
    c.execute(spent.values(_over(DeliveryStatus.FAILED) | {"error": lost}))
    place = sa.func.row_number().over(partition_by=DELIVERIES.c.owner, order_by=DELIVERIES.c.next_at)
    fair = (*_due(), DELIVERIES.c.owner.not_in(list(but)))
    ranked = sa.select(DELIVERIES.c.id, place.label("place")).where(*fair).subquery()
    chosen = DELIVERIES.c.id.in_(sa.select(ranked.c.id).where(ranked.c.place <= each))
    picked = sa.select(DELIVERIES.c.id).where(*_due(), chosen).order_by(DELIVERIES.c.next_at).limit(limit)
    locked = picked.with_for_update(skip_locked=True).cte("picked")
    taken = sa.update(DELIVERIES).where(DELIVERIES.c.id.in_(sa.select(locked.c.id)))
    lease = {"lease_until": clock.now(LEASE_SECONDS), "attempted_at": clock.now()}
    taken = taken.values(attempts=DELIVERIES.c.attempts + 1, **lease)
    return [Claim(*row) for row in c.execute(taken.returning(*CLAIMED))]


def note(c: sa.Connection, claimed: Claim, outcome: webhooks.Outcome) -> bool:
    """Write what came of an attempt, and when the next is due. False if the lease was lost meanwhile: nothing is."""
    seconds = webhooks.delay(claimed.attempts, outcome)
    values: dict[str, Any] = {"response_status": outcome.status, "error": outcome.error}
    if outcome.fate is not DeliveryStatus.PENDING:
        values |= _over(outcome.fate)
    elif seconds is None:
        values |= _over(DeliveryStatus.FAILED)
    else:
        values |= {"lease_until": None, "next_at": clock.now(seconds)}
    held = (DELIVERIES.c.id == claimed.id, PENDING, DELIVERIES.c.lease_until == claimed.lease_until)
    return c.execute(sa.update(DELIVERIES).where(*held).values(values)).rowcount == 1


def replay(c: sa.Connection, id_: str, owner: str) -> sa.Row[Any]:
    """Send a delivery once more, with all its attempts; one that is under way is only hurried. Its id stays.

    Raises:
        errors.DeliveryNotFound: there is no such delivery of this owner.
    """
    this = (DELIVERIES.c.id == id_, DELIVERIES.c.owner == owner)
    ended = sa.update(DELIVERIES).where(*this, DELIVERIES.c.status != DeliveryStatus.PENDING.value)
    anew = {"status": DeliveryStatus.PENDING.value, "attempts": 0, "ended_at": None}
    c.execute(ended.values(anew | {"next_at": clock.now()}))
    waits = sa.update(DELIVERIES).where(*this, PENDING, DELIVERIES.c.next_at > clock.now(), _free(clock.now()))
    c.execute(waits.values(next_at=clock.now()))
    row = c.execute(sa.select(DELIVERIES).where(*this)).one_or_none()
    if row is None:
        raise errors.DeliveryNotFound
    return row


def page(
    c: sa.Connection, owner: str | None, *, limit: int, before: str | None = None, filters: Mapping[str, str | None]
) -> Sequence[sa.Row[Any]]:
    """Deliveries, newest first, from below the id `before`; `owner` None sees everybody's.

    Args:
        c: the connection.
        owner: whose.
        limit: at most so many.
        before: the last one of the page before.
        filters: `job_id` and `status`, each where it is not None.
    """
    query = sa.select(DELIVERIES).order_by(DELIVERIES.c.id.desc()).limit(limit)
    wanted = {**filters, "owner": owner}
    query = query.where(*[DELIVERIES.c[name] == value for name, value in wanted.items() if value is not None])
    if before is not None:
        query = query.where(DELIVERIES.c.id < before)
    return c.execute(query).all()


def pending(c: sa.Connection) -> int:
    """How many are still to be sent."""
    return int(c.execute(sa.select(sa.func.count()).select_from(DELIVERIES).where(PENDING)).scalar_one())


def overdue(c: sa.Connection) -> int:
    """How many have been due for so long that no courier can be at work."""
    late = _due(clock.now(-LATE_SECONDS))
    return int(c.execute(sa.select(sa.func.count()).select_from(DELIVERIES).where(*late)).scalar_one())


def forget(c: sa.Connection, job_ids: Iterable[str]) -> None:
    """Remove the log of these jobs; what is still to be sent stays."""
    over = (DELIVERIES.c.job_id.in_(list(job_ids)), DELIVERIES.c.status != DeliveryStatus.PENDING.value)
    c.execute(sa.delete(DELIVERIES).where(*over))


def _over(status: DeliveryStatus) -> dict[str, Any]:
    return {"status": status.value, "next_at": None, "lease_until": None, "ended_at": clock.now()}


def _due(now: clock.Now | None = None) -> tuple[sa.ColumnElement[bool], ...]:
    now = clock.now() if now is None else now
    return PENDING, DELIVERIES.c.next_at <= now, _free(now)


def _free(now: clock.Now) -> sa.ColumnElement[bool]:
    return sa.or_(DELIVERIES.c.lease_until.is_(None), DELIVERIES.c.lease_until <= now)
