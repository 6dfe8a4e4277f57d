"""A job as queries return it: its columns, and what is computed or read from other tables with them."""

from datetime import datetime
from typing import Any, NamedTuple


class JobRow(NamedTuple):
    """A job with its status, live counts, the name of its owner, and its scan; None where it has none."""

    id: str
    api_key_id: str
    model: str
    priority: int
    metadata: dict[str, Any]
    bytes: int
    total: int
    done: int
    failed: int
    created_at: datetime
    status: str
    owner: str
    """The name of the key."""
    running: int = 0
    cancelled: int = 0
    expired: int = 0
    name: str | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    webhook_url: str | None = None
    public_base_url: str | None = None
    traceparent: str | None = None
    retry_of: str | None = None
    deleted_by: str | None = None
    sealed_at: datetime | None = None
    last_fed_at: datetime | None = None
    started_at: datetime | None = None
    cancelled_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    purged_at: datetime | None = None
    purge_completed_at: datetime | None = None
    scan_source: str | None = None
    scan_prefix: str | None = None
    scan_include: list[str] | None = None
    scan_exclude: list[str] | None = None
    scan_status: str | None = None
    scan_found: int | None = None
    scan_skipped: int | None = None
    scan_skipped_by_reason: dict[str, int] | None = None
    scan_left_out: list[Any] | None = None
    scan_error: str | None = None
    scan_created_at: datetime | None = None
    scan_ended_at: datetime | None = None
