"""Leases on rows: due rows are claimed for a minute, worked on, and written back by the holder of the lease.

For tables with the columns `id`, `status`, `next_attempt_at`, `lease_until` and `ended_at`, whose open rows are
`pending`. The end of a lease is also the fence: a claim whose lease was lost writes nothing.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from core.db import clock

LEASE_SECONDS = 60.0  # an attempt to deliver or to fetch takes half of it at most; an import extends its lease
OVERDUE_SECONDS = 60.0  # a row that has been due for so long has no dispatcher


class LeasedTable:
    """The statements of a table whose rows are leased."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._columns = table.c
        # Written out, not bound: a partial index serves only a query whose text contains its condition.
        self.is_pending: sa.ColumnElement[bool] = table.c.status == sa.literal_column("'pending'")

    def is_due(self, overdue_seconds: float = 0.0) -> sa.ColumnElement[bool]:
        """Select the rows that could be claimed, for at least so many seconds."""
        now = clock.now(-overdue_seconds)
        return sa.and_(self.is_pending, self._columns.next_attempt_at <= now, self.is_unleased(now))

    def is_unleased(self, now: clock.Now) -> sa.ColumnElement[bool]:
        """Select the rows without a lease, or with one that has ended."""
        return sa.or_(self._columns.lease_until.is_(None), self._columns.lease_until <= now)

    def is_held(self, claim: Any) -> sa.ColumnElement[bool]:
        """Select the row of a claim, by its `id` and `lease_until`, if its lease was not lost."""
        return sa.and_(self._columns.id == claim.id, self.is_pending, self._columns.lease_until == claim.lease_until)

    def has_due(self, conn: sa.Connection) -> bool:
        """Return whether any row could be claimed."""
        return conn.execute(sa.select(self._columns.id).where(self.is_due()).limit(1)).scalar() is not None

    def count_overdue(self, conn: sa.Connection) -> int:
        """Count the rows that have been due for so long that no dispatcher can be running."""
        overdue = sa.select(sa.func.count()).select_from(self._table).where(self.is_due(OVERDUE_SECONDS))
        return int(conn.execute(overdue).scalar_one())

    def claim(
        self,
        conn: sa.Connection,
        *conditions: sa.ColumnElement[bool],
        limit: int,
        returning: Sequence[Any],
        values: Mapping[str, Any] | None = None,
    ) -> Sequence[Any]:
        """Lease up to `limit` due rows, those first that have been due longest."""
        columns = self._columns
        candidates = sa.select(columns.id).where(self.is_due(), *conditions).order_by(columns.next_attempt_at)
        locked = candidates.limit(limit).with_for_update(skip_locked=True).cte("locked")
        update = sa.update(self._table).where(columns.id.in_(sa.select(locked.c.id)))
        update = update.values({"lease_until": clock.now(LEASE_SECONDS), **(values or {})})
        return conn.execute(update.returning(*returning)).all()


def final_values(status: enum.StrEnum) -> dict[str, Any]:
    """Return the values of a row that is not pending any more."""
    return {"status": status.value, "next_attempt_at": None, "lease_until": None, "ended_at": clock.now()}
