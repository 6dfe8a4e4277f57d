"""Response models: jobs, results, keys and models as frozen dataclasses; `raw` has all fields of the JSON."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

QUOTA_FIELDS = ("images_per_minute", "bytes_per_minute", "open_images", "open_bytes", "work_seconds_per_minute")
TERMINAL_STATUSES = frozenset({"done", "failed", "cancelled", "expired"})


def parse_timestamp(text: str | None) -> dt.datetime | None:
    """Parse an RFC 3339 timestamp; None for None."""
    return dt.datetime.fromisoformat(text) if text else None


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
class Source:
    """Source whose images the server reads itself; only admins see `address`."""

    name: str
    address: str | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Source":
        """Parse a JSON object."""
        return cls(raw["name"], raw.get("address"))


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
            created_at=parse_timestamp(raw.get("created_at")),
            started_at=parse_timestamp(raw.get("started_at")),
            finished_at=parse_timestamp(raw.get("finished_at")),
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


@dataclass(frozen=True, slots=True)
class ImageError:
    """Error of an image: a stable code, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Model that made a result."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Device and library versions with which a result was made."""

    device: str
    precision: str
    torch: str
    decoder: str
    sortbelt: str

    @classmethod
    def from_json(cls, raw: Mapping[str, Any] | None) -> "Environment | None":
        """Parse a JSON object; None for None."""
        return cls(*(str(raw.get(name) or "") for name in cls.__slots__)) if raw else None

    def diff(self, other: "Environment") -> dict[str, tuple[str, str]]:
        """Return the fields that differ, as (own value, other value)."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__slots__}
        return {name: (ours, theirs) for name, (ours, theirs) in pairs.items() if ours != theirs}


@dataclass(frozen=True, slots=True)
class ResultReview:
    """Verdict of a person on a result; the verdict is `label`, `none_of_these` or `bad_image`."""

    verdict: str
    label: str | None
    note: str | None
    reviewed_by: str
    reviewed_at: dt.datetime | None
    strategy: str | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any] | None) -> "ResultReview | None":
        """Parse a JSON object; None for None."""
        if not raw:
            return None
        values: dict[str, Any] = {name: raw.get(name) for name in cls.__slots__}
        return cls(**values | {"reviewed_at": parse_timestamp(raw.get("reviewed_at"))})


@dataclass(frozen=True, slots=True)
class Review:
    """Review of a result, as `Client.reviews` lists it; `verdict` is as in `ResultReview`, or `withdrawn`."""

    id: str
    result_id: str
    image_id: str
    image: str
    job_id: str
    sha256: str
    model: str
    version: str
    model_label: str
    confidence: float
    familiarity: float | None
    verdict: str
    label: str | None
    note: str | None
    reviewed_by: str
    reviewed_at: dt.datetime | None
    strategy: str | None
    draw_probability: float | None
    replaced_at: dt.datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Review":
        """Parse a JSON object."""
        values = {name: raw.get(name) for name in cls.__slots__}
        times = {name: parse_timestamp(raw.get(name)) for name in ("reviewed_at", "replaced_at")}
        return cls(**values | times | {"raw": raw})


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one image: a label with a confidence from 0 to 1, or an error."""

    id: str
    image: str
    job_id: str
    status: str
    label: str | None
    confidence: float | None
    scores: Mapping[str, float]
    error: ImageError | None
    model: ModelRef | None
    cached: bool
    finished_at: dt.datetime | None
    image_id: str
    custom_id: str | None
    environment: Environment | None
    worker: str | None
    owner: str
    familiarity: float | None
    """The share of held-out training photos that are less familiar, 0 to 1; None if the model has no reference."""
    review: ResultReview | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Result":
        """Parse a JSON object."""
        error, model = raw.get("error"), raw.get("model")
        return cls(
            id=str(raw.get("id") or ""),
            image=raw["image"],
            job_id=raw["job_id"],
            status=raw["status"],
            label=raw.get("label"),
            confidence=raw.get("confidence"),
            scores=raw.get("scores") or {},
            error=ImageError(str(error["code"]), str(error.get("detail") or "")) if error else None,
            model=ModelRef(*(str(model.get(name) or "") for name in ModelRef.__slots__)) if model else None,
            cached=bool(raw.get("cached")),
            finished_at=parse_timestamp(raw.get("finished_at")),
            image_id=str(raw.get("image_id") or ""),
            custom_id=raw.get("custom_id"),
            environment=Environment.from_json(raw.get("environment")),
            worker=raw.get("worker"),
            owner=raw.get("owner") or "",
            familiarity=raw.get("familiarity"),
            review=ResultReview.from_json(raw.get("review")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class DiffSide:
    """Result of an image in one of two compared jobs."""

    label: str | None
    confidence: float | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any] | None) -> "DiffSide | None":
        """Parse a JSON object; None for None."""
        return cls(raw.get("label"), raw.get("confidence")) if raw else None


@dataclass(frozen=True, slots=True)
class JobDifference:
    """Image whose label differs between two jobs; a side is None if that job has no result for the name."""

    image: str
    a: DiffSide | None
    b: DiffSide | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "JobDifference":
        """Parse a JSON object."""
        return cls(raw["image"], DiffSide.from_json(raw["a"]), DiffSide.from_json(raw["b"]))


@dataclass(frozen=True, slots=True)
class PurgeRecord:
    """Record of a purged job.

    Attributes:
        owner: id of the key that submitted it.
        images: number of its images, which are deleted with their results.
        bytes: size of these images.
        purged_at: when it became invisible.
        emptied_at: when everything was deleted; None while that is in progress.
    """

    job_id: str
    owner: str
    model: str
    images: int
    bytes: int
    purged_at: dt.datetime | None
    emptied_at: dt.datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "PurgeRecord":
        """Parse a JSON object."""
        return cls(
            job_id=raw["job_id"],
            owner=raw["owner"],
            model=raw.get("model") or "",
            images=int(raw["images"]),
            bytes=int(raw["bytes"]),
            purged_at=parse_timestamp(raw.get("purged_at")),
            emptied_at=parse_timestamp(raw.get("emptied_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """Delivery of a webhook; `status` is pending, delivered, failed or disabled (the receiver responded with 410).

    Attributes:
        response_status: HTTP status of the last attempt; None without a response.
        error: why the last attempt failed.
    """

    id: str
    job_id: str
    event: str
    url: str
    status: str
    attempts: int
    response_status: int | None
    error: str | None
    created_at: dt.datetime | None
    attempted_at: dt.datetime | None
    next_attempt_at: dt.datetime | None
    ended_at: dt.datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "WebhookDelivery":
        """Parse a JSON object."""
        timestamp_fields = ("created_at", "attempted_at", "next_attempt_at", "ended_at")
        return cls(
            id=raw["id"],
            job_id=raw["job_id"],
            event=raw.get("event") or "",
            url=raw.get("url") or "",
            status=raw["status"],
            attempts=int(raw.get("attempts") or 0),
            response_status=raw.get("response_status"),
            error=raw.get("error"),
            **{name: parse_timestamp(raw.get(name)) for name in timestamp_fields},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Key:
    """API key; only a new key has its `secret`.

    For each quota, None is the server's setting, and 0 means no limit.
    """

    id: str
    name: str
    role: str
    prefix: str
    created_at: dt.datetime | None
    revoked_at: dt.datetime | None
    expires_at: dt.datetime | None = None
    images_per_minute: int | None = None
    bytes_per_minute: int | None = None
    open_images: int | None = None
    open_bytes: int | None = None
    work_seconds_per_minute: int | None = None
    secret: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Key":
        """Parse a JSON object."""
        return cls(
            id=raw["id"],
            name=raw.get("name") or "",
            role=raw.get("role") or "",
            prefix=raw.get("prefix") or "",
            created_at=parse_timestamp(raw.get("created_at")),
            revoked_at=parse_timestamp(raw.get("revoked_at")),
            expires_at=parse_timestamp(raw.get("expires_at")),
            **{name: raw.get(name) for name in QUOTA_FIELDS},
            secret=raw.get("key"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """Version of a model; `stage` is candidate, live, shadow or retired."""

    name: str
    version: str
    digest: str
    stage: str
    share: float | None
    labels: tuple[str, ...]
    metrics: Mapping[str, Any]
    served_by: tuple[str, ...]
    refused_by: Mapping[str, str]
    created_at: dt.datetime | None
    created_by: str
    promoted_at: dt.datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ModelVersion":
        """Parse a JSON object."""
        return cls(
            name=raw["name"],
            version=raw["version"],
            digest=raw.get("digest") or "",
            stage=raw.get("stage") or "",
            share=raw.get("share"),
            labels=tuple(raw.get("labels") or ()),
            metrics=raw.get("metrics") or {},
            served_by=tuple(raw.get("served_by") or ()),
            refused_by={entry["worker"]: entry["reason"] for entry in raw.get("refused_by") or ()},
            created_at=parse_timestamp(raw.get("created_at")),
            created_by=raw.get("created_by") or "",
            promoted_at=parse_timestamp(raw.get("promoted_at")),
            raw=raw,
        )

    @property
    def title(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Image with different labels by two versions, each with its confidence."""

    image: str
    job_id: str
    label_a: str
    confidence_a: float
    label_b: str
    confidence_b: float

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Disagreement":
        """Parse a JSON object."""
        a, b = raw["a"], raw["b"]
        return cls(raw["image"], raw["job_id"], a["label"], a["confidence"], b["label"], b["confidence"])


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Comparison of two versions of a model, over the images that both classified.

    Attributes:
        compared: number of these images.
        agreement: share of them with the same label by both; None without images.
        matrix: number of images by (label of a, label of b).
        mean_confidence: of each version, by "a" and "b".
        disagreements: up to the limit, those with the highest confidences first.
    """

    compared: int
    agreeing: int
    agreement: float | None
    matrix: Mapping[tuple[str, str], int]
    mean_confidence: Mapping[str, float | None]
    disagreements: tuple[Disagreement, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ModelComparison":
        """Parse a JSON object."""
        return cls(
            compared=raw["compared"],
            agreeing=raw["agreeing"],
            agreement=raw["agreement"],
            matrix={(cell["a"], cell["b"]): cell["count"] for cell in raw["matrix"]},
            mean_confidence=raw["mean_confidence"],
            disagreements=tuple(map(Disagreement.from_json, raw["disagreements"])),
            raw=raw,
        )
