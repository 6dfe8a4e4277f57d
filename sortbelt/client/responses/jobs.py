"""Response models of jobs."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortbelt.client.responses import timestamps

TERMINAL_STATUSES = frozenset({"done", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images of a job in each state; the states sum to the total."""

    total: int = 0
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Counts":
        """Parse a JSON object."""
        return cls(**{name: int(raw.get(name, 0)) for name in cls.__slots__})

    @property
    def ended(self) -> int:
        """Return the number of images with a result."""
        return self.total - self.queued - self.running


@dataclass(frozen=True, slots=True)
class Scan:
    """Import of a source into a job; `status` is pending, done, failed or cancelled.

    Attributes:
        found: images so far; all of them are in the job.
        skipped: files so far that are not images.
        left_out: the first 20 files that may be images and were left out, each with `name` and `reason`.
        error: why it failed, or what it waits for.
    """

    source: str
    prefix: str
    status: str
    found: int
    skipped: int
    error: str | None
    skipped_by_reason: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[Mapping[str, str]] = ()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Scan":
        """Parse a JSON object; a server of an older version has fewer fields."""
        return cls(**{name: raw[name] for name in cls.__slots__ if name in raw})


@dataclass(frozen=True, slots=True)
class Job:
    """State of a job; `scan` is None unless the job is filled from a source of the server."""

    id: str
    status: str
    counts: Counts
    sealed: bool
    model: str
    priority: str
    metadata: Mapping[str, Any]
    scan: Scan | None
    created_at: dt.datetime | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    name: str | None
    owner: str
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Job":
        """Parse a JSON object."""
        return cls(
            id=raw["id"],
            status=raw["status"],
            counts=Counts.from_json(raw["counts"]),
            sealed=bool(raw.get("sealed", True)),
            model=raw.get("model") or "",
            priority=raw.get("priority") or "",
            metadata=raw.get("metadata") or {},
            scan=Scan.from_json(raw["scan"]) if raw.get("scan") else None,
            created_at=timestamps.parse_timestamp(raw.get("created_at")),
            started_at=timestamps.parse_timestamp(raw.get("started_at")),
            finished_at=timestamps.parse_timestamp(raw.get("finished_at")),
            name=raw.get("name"),
            owner=raw.get("owner") or "",
            raw=raw,
        )

    @property
    def outcome(self) -> str:
        """Return the status for people: with the number of failures, which the status alone does not show."""
        counts = self.counts
        lost = [(counts.failed, "failed"), (counts.cancelled, "cancelled"), (counts.expired, "expired")]
        parts = [f"{count:,} {name}" for count, name in lost if count and self.status == "done"]
        return ", ".join([self.status, *parts])

    @property
    def ended(self) -> bool:
        """Return whether every image has a result, and no more can be added."""
        return self.status in TERMINAL_STATUSES

    @property
    def all_well(self) -> bool:
        """Return whether every image was found and classified."""
        scan_done = self.scan is None or (self.scan.status == "done" and not self.scan.left_out)
        return self.ended and scan_done and self.counts.done == self.counts.total
