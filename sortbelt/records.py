"""What the server tells about jobs, results, keys and models, as frozen records; fields that it adds are in `raw`."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

QUOTAS = ("images_per_minute", "bytes_per_minute", "open_images", "open_bytes")
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
class Source:
    """A place of the server whose pictures need not be sent; `address` is told to admins only."""

    name: str
    address: str | None

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Source":
        """The source in a JSON object."""
        return cls(raw["name"], raw.get("address"))


@dataclass(frozen=True, slots=True)
class Scan:
    """How the server fills a job from a source; `status` is pending, done, failed or cancelled.

    Attributes:
        found: pictures so far; all of them are in the job.
        skipped: files so far that were left alone.
        error: why it has failed, or what it waits for.
    """

    source: str
    prefix: str
    status: str
    found: int
    skipped: int
    error: str | None

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Scan":
        """The scan in a JSON object."""
        return cls(**{name: raw[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server last told it; `scan` is None for one that is not filled from a source of the server."""

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
            scan=Scan.read(raw["scan"]) if raw.get("scan") else None,
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
        """Whether every image was found and classified."""
        found = self.scan is None or self.scan.status == "done"
        return self.ended and found and self.counts.done == self.counts.total


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
class Environment:
    """On what, and by which libraries, a result was made."""

    device: str
    precision: str
    torch: str
    decoder: str
    sortbelt: str

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None) -> "Environment | None":
        """The environment in a JSON object; None where there is none."""
        return cls(*(str(raw.get(name) or "") for name in cls.__slots__)) if raw else None

    def changes(self, other: "Environment") -> dict[str, tuple[str, str]]:
        """What is not the same in another one: by its name, here and there."""
        both = {name: (getattr(self, name), getattr(other, name)) for name in self.__slots__}
        return {name: (here, there) for name, (here, there) in both.items() if here != there}


@dataclass(frozen=True, slots=True)
class Result:
    """The fate of one image: its label with a confidence from 0 to 1, or why it has none."""

    id: str
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
    image_id: str
    custom_id: str | None
    environment: Environment | None
    worker: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Result":
        """The result in a JSON object."""
        error, model = raw.get("error"), raw.get("model")
        return cls(
            id=str(raw.get("id") or ""),
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
            image_id=str(raw.get("image_id") or ""),
            custom_id=raw.get("custom_id"),
            environment=Environment.read(raw.get("environment")),
            worker=raw.get("worker"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a job was purged.

    Attributes:
        owner: the id of the key that ordered it.
        images: how many pictures it had, which are gone with their results.
        bytes: of these pictures.
        purged_at: since when nobody sees it.
        emptied_at: when the last of it had gone; None while it goes.
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
    def read(cls, raw: Mapping[str, Any]) -> "Receipt":
        """The receipt in a JSON object."""
        return cls(
            job_id=raw["job_id"],
            owner=raw["owner"],
            model=raw.get("model") or "",
            images=int(raw["images"]),
            bytes=int(raw["bytes"]),
            purged_at=moment(raw.get("purged_at")),
            emptied_at=moment(raw.get("emptied_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """What has become of a webhook; `status` is pending, delivered, failed or disabled (the receiver answered 410).

    Attributes:
        response_status: what the receiver last answered; None if it did not.
        error: why the last attempt was in vain.
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
    def read(cls, raw: Mapping[str, Any]) -> "Delivery":
        """The delivery in a JSON object."""
        moments = ("created_at", "attempted_at", "next_attempt_at", "ended_at")
        return cls(
            id=raw["id"],
            job_id=raw["job_id"],
            event=raw.get("event") or "",
            url=raw.get("url") or "",
            status=raw["status"],
            attempts=int(raw.get("attempts") or 0),
            response_status=raw.get("response_status"),
            error=raw.get("error"),
            **{name: moment(raw.get(name)) for name in moments},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; `secret` is known only where the key was just made.

    Of each quota, None is what the server's settings say, and 0 is no limit.
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
            expires_at=moment(raw.get("expires_at")),
            **{name: raw.get(name) for name in QUOTAS},
            secret=raw.get("key"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model; `stage` is candidate, live, shadow or retired."""

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
    def read(cls, raw: Mapping[str, Any]) -> "Version":
        """The version in a JSON object."""
        return cls(
            name=raw["name"],
            version=raw["version"],
            digest=raw.get("digest") or "",
            stage=raw.get("stage") or "",
            share=raw.get("share"),
            labels=tuple(raw.get("labels") or ()),
            metrics=raw.get("metrics") or {},
            served_by=tuple(raw.get("served_by") or ()),
            refused_by={each["worker"]: each["reason"] for each in raw.get("refused_by") or ()},
            created_at=moment(raw.get("created_at")),
            created_by=raw.get("created_by") or "",
            promoted_at=moment(raw.get("promoted_at")),
            raw=raw,
        )

    @property
    def title(self) -> str:
        """NAME@VERSION."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An image to which two versions gave different labels, each with its confidence."""

    image: str
    job_id: str
    label_a: str
    confidence_a: float
    label_b: str
    confidence_b: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Disagreement":
        """The disagreement in a JSON object."""
        a, b = raw["a"], raw["b"]
        return cls(raw["image"], raw["job_id"], a["label"], a["confidence"], b["label"], b["confidence"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where two versions of a model agree, over the images that both judged.

    Attributes:
        compared: how many images that are.
        agreement: the share of them to which both gave the same label; None if there are no such images.
        matrix: how many images have the labels (of a, of b).
        mean_confidence: of each version, by "a" and "b".
        disagreements: as many as were asked for, those first of which both versions are surest.
    """

    compared: int
    agreeing: int
    agreement: float | None
    matrix: Mapping[tuple[str, str], int]
    mean_confidence: Mapping[str, float | None]
    disagreements: tuple[Disagreement, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Comparison":
        """The comparison in a JSON object."""
        return cls(
            compared=raw["compared"],
            agreeing=raw["agreeing"],
            agreement=raw["agreement"],
            matrix={(cell["a"], cell["b"]): cell["count"] for cell in raw["matrix"]},
            mean_confidence=raw["mean_confidence"],
            disagreements=tuple(map(Disagreement.read, raw["disagreements"])),
            raw=raw,
        )
