"""Response models of results, reviews and comparisons of jobs."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sortbelt.client.responses import timestamps


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
        return cls(**values | {"reviewed_at": timestamps.parse_timestamp(raw.get("reviewed_at"))})


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
        times = {name: timestamps.parse_timestamp(raw.get(name)) for name in ("reviewed_at", "replaced_at")}
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
            finished_at=timestamps.parse_timestamp(raw.get("finished_at")),
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
