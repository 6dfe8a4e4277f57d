"""Tracing: what took how long, on the way of a request and of a batch. Switched off, which it is, it does nothing.

OpenTelemetry is imported by `start_or_exit` alone, and only when it is to be used (docs/decisions/0019).
"""

import contextlib
import functools
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from jobs import telemetry

P = ParamSpec("P")
T = TypeVar("T")
Attributes = Mapping[str, str | int | float]

MOST_LINKS = 100  # jobs that one span is linked to; it tells how many there were
NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


class Span:
    """What is told of a span under way; nobody hears it where there is none."""

    def tell(self, attributes: Attributes, name: str | None = None) -> None:
        """Say more about it, and give it a better name. Never names of pictures, keys, or what pictures hold."""

    def fail(self, kind: str) -> None:
        """Say that it went wrong, and the kind of error, which has no text of a caller's in it."""


@dataclass(frozen=True)
class Step:
    """Something that has been done: from when to when, by `time.time_ns()`."""

    name: str
    began: int
    ended: int
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None


@dataclass
class _Switch:
    on: "telemetry.Telemetry | None" = None


_SWITCH = _Switch()
_NOBODY = Span()
_NOTHING: AbstractContextManager[Span] = contextlib.nullcontext(_NOBODY)


def installed() -> bool:
    """Whether the packages of `sortbelt[otel]` are there."""
    try:
        return all(importlib.util.find_spec(name) for name in NEEDED)
    except ModuleNotFoundError:
        return False


def start_or_exit(service: str, *, on: bool) -> None:
    """Begin to trace, if that is wanted; in the very process that works, since threads do not outlive a fork."""
    if not on:
        return
    from jobs import telemetry  # noqa: PLC0415 (only those who trace pay for it)

    try:
        _SWITCH.on = telemetry.Telemetry(service)
    except ValueError as error:
        print(f"sortbelt: an OTEL_… variable is not acceptable: {error}", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        sys.exit(2)


def close() -> None:
    """Send off what is left, for a moment, and trace no more."""
    on, _SWITCH.on = _SWITCH.on, None
    if on is not None:
        on.close()


def is_on() -> bool:
    """Whether spans are kept."""
    return _SWITCH.on is not None


def span(name: str, of: Callable[..., Any] | None = None) -> AbstractContextManager[Span]:
    """A part of what is under way in this thread, maybe of a function; nothing if nothing under way is traced."""
    on = _SWITCH.on
    if on is None:
        return _NOTHING
    return on.child(name if of is None else f"{name} {getattr(of, '__name__', '')}") or _NOTHING


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function whose every call is a `span`."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return function(*args, **kwargs)

        return timed

    return wrap


def served(name: str, headers: Mapping[str, str], began: int) -> AbstractContextManager[Span]:
    """The span of a request, since `began`; it goes on with the trace that its `traceparent` tells of."""
    on = _SWITCH.on
    return _NOTHING if on is None else on.served(name, headers, began)


def sent(name: str, attributes: Attributes, links: Mapping[str, str | None]) -> AbstractContextManager[Span]:
    """The span of a request of our own, with links to the traces of jobs: by their ids, their traceparents."""
    on = _SWITCH.on
    return _NOTHING if on is None else on.sent(name, attributes, links)


def record(whole: Step, parts: Sequence[Step], links: Mapping[str, str | None] | None = None) -> None:
    """Tell of something with its parts when it is over; without `links` as a part of what is under way."""
    if _SWITCH.on is not None:
        _SWITCH.on.record(whole, parts, links)


def traceparent() -> str | None:
    """What is under way in this thread, as W3C's `traceparent` has it; None if nothing is, or that is not traced."""
    return None if _SWITCH.on is None else _SWITCH.on.traceparent()


def current() -> Span:
    """The span that is under way in this thread."""
    return _NOBODY if _SWITCH.on is None else _SWITCH.on.current()


def since(moment: float) -> int:
    """A moment of the monotonic clock, as `time.time_ns()` told it then."""
    return time.time_ns() - int((time.monotonic() - moment) * 1e9)
