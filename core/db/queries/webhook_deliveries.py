"""Webhook deliveries: a transactional outbox of finished jobs, and the outcome of each delivery attempt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import errors
from core.db import clock, task_leases
from core.db.expressions import DELIVERIES, Page, no_index
from core.enums import DeliveryStatus
from core.webhooks import payload, retry_schedule

LEASES = task_leases.LeasedTable(DELIVERIES)
IS_PENDING = LEASES.is_pending
has_due, count_overdue = LEASES.has_due, LEASES.count_overdue
MAX_SCANNED_DELIVERIES = 5_000  # deliveries of which a page is made where an ended status is asked for
CLAIM_NAMES = ("id", "job_id", "api_key_id", "event", "url", "attempts", "lease_until")
CLAIM_COLUMNS = [DELIVERIES.c[name] for name in CLAIM_NAMES]


@dataclass(frozen=True)
class Claim:
    """A delivery that a dispatcher holds until its lease ends."""

    id: str
    job_id: str
    owner: str
    event: str
    url: str
    attempts: int
    """Including this one."""
    lease_until: datetime


def enqueue(conn: sa.Connection, finished_jobs: Iterable[Any], *, is_due: bool = True) -> None:
    """Add a delivery for each of these jobs that has a webhook; to be called in the transaction that ends the job.

    One that is not due waits for `make_due`.
    """
    rows = [
        {"id": str(uuids.uuid7()), "job_id": job.id, "api_key_id": job.api_key_id, "url": job.webhook_url}
        for job in finished_jobs
        if job.webhook_url is not None
    ]
    if rows:
        due_at = clock.now() if is_due else None
        statement = sa.insert(DELIVERIES).values(next_attempt_at=due_at, created_at=clock.now())
        conn.execute(
            statement.values(event=payload.JOB_COMPLETED, status=DeliveryStatus.PENDING.value, attempts=0), rows
        )


def make_due(conn: sa.Connection, job_ids: sa.Select[tuple[str]]) -> None:
    """Let the deliveries of these jobs that wait for it be sent from now on."""
    is_waiting = (IS_PENDING, DELIVERIES.c.next_attempt_at.is_(None), DELIVERIES.c.job_id.in_(job_ids))
    conn.execute(sa.update(DELIVERIES).where(*is_waiting).values(next_attempt_at=clock.now()))


def claim(
    conn: sa.Connection, *, limit: int, max_per_owner: int, in_flight: Mapping[str, int] | None = None
) -> list[Claim]:
    """Claim up to `limit` due deliveries, so that no key has more than `max_per_owner` with those `in_flight`.

    Call `record_attempt` for each. A delivery whose dispatcher was lost during the last attempt has failed.
    """
    held = in_flight or {}
    exhausted = sa.update(DELIVERIES).where(
        LEASES.is_due(), DELIVERIES.c.attempts >= len(retry_schedule.RETRY_DELAYS_SECONDS)
    )
    lost_error = "The dispatcher was lost during the last attempt."
    conn.execute(exhausted.values(task_leases.final_values(DeliveryStatus.FAILED) | {"error": lost_error}))
    rank: sa.ColumnElement[int] = sa.func.row_number().over(
        partition_by=DELIVERIES.c.api_key_id, order_by=DELIVERIES.c.next_attempt_at
    )
    if held:  # a key's first due delivery comes after those in flight
        rank += sa.case(*((DELIVERIES.c.api_key_id == owner, count) for owner, count in held.items()), else_=0)
    full_owners = [owner for owner, count in held.items() if count >= max_per_owner]
    eligible = (LEASES.is_due(), DELIVERIES.c.api_key_id.not_in(full_owners))
    ranked = sa.select(DELIVERIES.c.id, rank.label("rank")).where(*eligible).subquery()
    within_limit = DELIVERIES.c.id.in_(sa.select(ranked.c.id).where(ranked.c.rank <= max_per_owner))
    values = {"attempts": DELIVERIES.c.attempts + 1, "attempted_at": clock.now()}
    rows = LEASES.claim(conn, within_limit, limit=limit, values=values, returning=CLAIM_COLUMNS)
    return [Claim(*row) for row in rows]


def record_attempt(conn: sa.Connection, claim: Claim, outcome: retry_schedule.DeliveryAttempt) -> bool:
    """Write the outcome of an attempt and schedule the next. Return False, and write nothing, if the lease was lost."""
    retry_delay = retry_schedule.next_retry_delay(claim.attempts, outcome)
    values: dict[str, Any] = {"response_status": outcome.status, "error": outcome.error}
    if outcome.delivery_status is not DeliveryStatus.PENDING:
        values |= task_leases.final_values(outcome.delivery_status)
    elif retry_delay is None:
        values |= task_leases.final_values(DeliveryStatus.FAILED)
    else:
        values |= {"lease_until": None, "next_attempt_at": clock.now(retry_delay)}
    return conn.execute(sa.update(DELIVERIES).where(LEASES.is_held(claim)).values(values)).rowcount == 1


def replay(conn: sa.Connection, id_: str, owner: str) -> sa.Row[Any]:
    """Send a delivery again, under the same id and with all its attempts; a pending one only becomes due now.

    Raises:
        errors.DeliveryNotFound: the owner has no such delivery.
    """
    is_selected = (DELIVERIES.c.id == id_, DELIVERIES.c.api_key_id == owner)
    restart = sa.update(DELIVERIES).where(*is_selected, DELIVERIES.c.status != DeliveryStatus.PENDING.value)
    reset_values = {"status": DeliveryStatus.PENDING.value, "attempts": 0, "ended_at": None}
    conn.execute(restart.values(reset_values | {"next_attempt_at": clock.now()}))
    reschedule = sa.update(DELIVERIES).where(
        *is_selected, IS_PENDING, DELIVERIES.c.next_attempt_at > clock.now(), LEASES.is_unleased(clock.now())
    )
    conn.execute(reschedule.values(next_attempt_at=clock.now()))
    row = conn.execute(sa.select(DELIVERIES).where(*is_selected)).one_or_none()
    if row is None:
        raise errors.DeliveryNotFound.of(id_)
    return row


def list_page(
    conn: sa.Connection,
    owner: str | None,
    *,
    limit: int,
    before: str | None = None,
    filters: Mapping[str, str | None],
    max_scanned: int = MAX_SCANNED_DELIVERIES,
) -> Page:
    """Return up to `limit` deliveries, newest first, from below the id `before`; `owner` None is every key's.

    `filters` holds `job_id` and `status`; a value of None matches all. Deliveries that have ended with a status, which
    no index covers, are searched for among the next `max_scanned` only: a page may have fewer rows than `limit`, or
    none, and still a cursor for the next page.
    """
    status, job_id = filters.get("status"), filters.get("job_id")
    equal_to = {"job_id": job_id, "api_key_id": owner}
    conditions = [DELIVERIES.c[name] == value for name, value in equal_to.items() if value is not None]
    if before is not None:
        conditions.append(DELIVERIES.c.id < before)
    query, next_cursor = sa.select(DELIVERIES).where(*conditions), None
    if status is not None and job_id is not None:  # a job has few
        query = query.where(DELIVERIES.c.status == status)
    elif status == DeliveryStatus.PENDING:
        query = sa.select(DELIVERIES).where(DELIVERIES.c.id.in_(_newest_pending(owner, before, limit)))
    elif status is not None:
        query = query.where(DELIVERIES.c.status == status)
        scanned = sa.select(DELIVERIES.c.id).where(*conditions).order_by(DELIVERIES.c.id.desc())
        next_cursor = conn.execute(scanned.offset(max_scanned - 1).limit(1)).scalar()
        if next_cursor is not None:
            query = query.where(DELIVERIES.c.id >= next_cursor)
    rows = conn.execute(query.order_by(DELIVERIES.c.id.desc()).limit(limit)).all()
    return Page(rows, rows[-1].id if len(rows) == limit else next_cursor)


def _newest_pending(owner: str | None, before: str | None, limit: int) -> sa.Select[tuple[str]]:
    """Select the ids of the newest pending deliveries by their small index: either database may else walk the log."""
    conditions = [IS_PENDING]
    if owner is not None:
        conditions.append(no_index(DELIVERIES.c.api_key_id) == owner)
    if before is not None:
        conditions.append(no_index(DELIVERIES.c.id) < before)
    pending = sa.select(DELIVERIES.c.id).where(*conditions).cte("pending").prefix_with("MATERIALIZED")
    return sa.select(pending.c.id).order_by(pending.c.id.desc()).limit(limit)


def count_pending(conn: sa.Connection) -> int:
    """Count the deliveries that are still to be sent."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(DELIVERIES).where(IS_PENDING)).scalar_one())


def delete_finished(conn: sa.Connection, job_ids: Iterable[str]) -> None:
    """Delete the finished deliveries of these jobs; pending ones stay."""
    is_finished = (DELIVERIES.c.job_id.in_(list(job_ids)), DELIVERIES.c.status != DeliveryStatus.PENDING.value)
    conn.execute(sa.delete(DELIVERIES).where(*is_finished))
