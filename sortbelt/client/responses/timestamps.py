"""Timestamps of the API."""

import datetime as dt


def parse_timestamp(text: str | None) -> dt.datetime | None:
    """Parse an RFC 3339 timestamp; None for None."""
    return dt.datetime.fromisoformat(text) if text else None
