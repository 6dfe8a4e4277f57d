"""Filters of lists, as editors and type checkers know them. Times are RFC 3339, or such as `24h` and `yesterday`."""

from typing import Literal, TypedDict

Status = Literal["done", "failed", "cancelled", "expired"]
JobStatus = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
Group = Literal["label", "status", "error", "model", "confidence", "familiarity", "day", "hour"]
Order = Literal["newest", "confidence", "familiarity"]
Verdict = Literal["label", "none_of_these", "bad_image", "withdrawn"]
Strategy = Literal["least_confident", "unfamiliar", "disagreement", "random"]


class JobFilters(TypedDict, total=False):
    """Filters of jobs; `name` is a text in the name, `owner` the name or id of a key."""

    status: JobStatus | None
    name: str | None
    model: str | None
    owner: str | None
    since: str | None
    until: str | None


class ResultFilters(TypedDict, total=False):
    """Filters of results; `error` is a code, `model` NAME or NAME@VERSION, `name` a text in the image's name."""

    job: str | None
    label: str | None
    min_confidence: float | None
    max_confidence: float | None
    min_familiarity: float | None
    max_familiarity: float | None
    status: Status | None
    error: str | None
    model: str | None
    version: str | None
    owner: str | None
    since: str | None
    until: str | None
    name: str | None
    custom_id: str | None
    reviewed: bool | None


class ResultListFilters(ResultFilters, total=False):
    """Filters of a list of results, with its order and the rows per request."""

    order: Order | None
    limit: int | None


class ReviewFilters(TypedDict, total=False):
    """Filters of reviews; `history` also lists those that were replaced or withdrawn."""

    model: str | None
    version: str | None
    job: str | None
    result: str | None
    verdict: Verdict | None
    label: str | None
    strategy: Strategy | None
    reviewed_by: str | None
    since: str | None
    until: str | None
    history: bool | None
