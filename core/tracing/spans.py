"""Span types, shared by the tracer and the OpenTelemetry exporter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Attributes = Mapping[str, str | int | float]

MAX_LINKS = 100  # linked jobs of one span; an attribute has their number


class Span:
    """A running span; this base class discards everything."""

    def set_attributes(self, attributes: Attributes, name: str | None = None) -> None:
        """Set attributes, and a better name. Never image names, keys or image content."""

    def set_error(self, error_type: str) -> None:
        """Mark the span as failed, with the kind of error, which must not contain text of a caller's."""


@dataclass(frozen=True)
class FinishedSpan:
    """A span that has ended: from when to when, by `time.time_ns()`."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None
