"""What the server tells about jobs, results and keys, as frozen records; fields it adds later are kept in `raw`."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENDED = frozenset({"done", "failed", "cancelled", "expired"})


def moment(text: str | None) -> dt.datetime | None:
    """The time that an RFC 3339 text names, or None."""
    return dt.datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images of a job are in which state; the states sum to the total."""

    total: int = 0
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Counts":
        """The counts in a JSON object."""
        return cls(**{name: int(raw.get(name, 0)) for name in cls.__slots__})

    @property
    def ended(self) -> int:
        """The images that have their result."""
        return self.total - self.queued - self.running


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server last told it."""

    id: str
    status: str
    counts: Counts
    sealed: bool
    model: str
    priority: str
    metadata: Mapping[str, Any]
    created_at: dt.datetime | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Job":
        """The job in a JSON object."""
        return cls(
            id=raw["id"],
            status=raw["status"],
            counts=Counts.read(raw["counts"]),
            sealed=bool(raw.get("sealed", True)),
            model=raw.get("model") or "",
            priority=raw.get("priority") or "",
            metadata=raw.get("metadata") or {},
            created_at=moment(raw.get("created_at")),
            started_at=moment(raw.get("started_at")),
            finished_at=moment(raw.get("finished_at")),
            raw=raw,
        )

    @property
    def ended(self) -> bool:
        """Whether every image has its result, and no more can come."""
        return self.status in ENDED

    @property
    def all_well(self) -> bool:
        """Whether every image was classified."""
        return self.ended and self.counts.done == self.counts.total


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no label: a stable code, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Model:
    """The model that made a result."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Result:
    """The fate of one image: its label with a confidence from 0 to 1, or why it has none."""

    image: str
    job_id: str
    status: str
    label: str | None
    confidence: float | None
    scores: Mapping[str, float]
    error: Failure | None
    model: Model | None
    cached: bool
    finished_at: dt.datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Result":
        """The result in a JSON object."""
        error, model = raw.get("error"), raw.get("model")
        return cls(
            image=raw["image"],
            job_id=raw["job_id"],
            status=raw["status"],
            label=raw.get("label"),
            confidence=raw.get("confidence"),
            scores=raw.get("scores") or {},
            error=Failure(str(error["code"]), str(error.get("detail") or "")) if error else None,
            model=Model(*(str(model.get(name) or "") for name in Model.__slots__)) if model else None,
            cached=bool(raw.get("cached")),
            finished_at=moment(raw.get("finished_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; `secret` is known only where the key was just made."""

    id: str
    name: str
    role: str
    prefix: str
    created_at: dt.datetime | None
    revoked_at: dt.datetime | None
    secret: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Key":
        """The key in a JSON object."""
        return cls(
            id=raw["id"],
            name=raw.get("name") or "",
            role=raw.get("role") or "",
            prefix=raw.get("prefix") or "",
            created_at=moment(raw.get("created_at")),
            revoked_at=moment(raw.get("revoked_at")),
            secret=raw.get("key"),
            raw=raw,
        )
