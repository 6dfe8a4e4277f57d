"""Timestamps as text."""

from datetime import UTC, datetime


def format_rfc3339(timestamp: datetime) -> str:
    """Format a timestamp as RFC 3339, in UTC, to the millisecond."""
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
