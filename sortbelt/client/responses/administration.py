"""Response models of sources, purges, webhooks, keys and models."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sortbelt.client.responses import timestamps

QUOTA_FIELDS = ("images_per_minute", "bytes_per_minute", "open_images", "open_bytes", "work_seconds_per_minute")


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
            purged_at=timestamps.parse_timestamp(raw.get("purged_at")),
            emptied_at=timestamps.parse_timestamp(raw.get("emptied_at")),
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
            **{name: timestamps.parse_timestamp(raw.get(name)) for name in timestamp_fields},
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
            created_at=timestamps.parse_timestamp(raw.get("created_at")),
            revoked_at=timestamps.parse_timestamp(raw.get("revoked_at")),
            expires_at=timestamps.parse_timestamp(raw.get("expires_at")),
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
            created_at=timestamps.parse_timestamp(raw.get("created_at")),
            created_by=raw.get("created_by") or "",
            promoted_at=timestamps.parse_timestamp(raw.get("promoted_at")),
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
