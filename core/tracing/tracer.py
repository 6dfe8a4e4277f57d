"""Tracing facade: spans of requests, batches and deliveries. Does nothing while it is off, which is the default.

OpenTelemetry is imported by `start_or_exit` only, and only if tracing is on (docs/decisions/0019).
"""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from core.tracing import spans

if TYPE_CHECKING:
    from core.tracing import otel

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class _State:
    backend: "otel.OtelBackend | None" = None


_STATE = _State()
_NOOP_SPAN = spans.Span()
_NOOP_CONTEXT: AbstractContextManager[spans.Span] = contextlib.nullcontext(_NOOP_SPAN)


def start_or_exit(service: str, *, enabled: bool) -> None:
    """Start tracing if it is on; in the process that does the work, because threads do not survive a fork."""
    if not enabled:
        return
    from core.tracing import otel  # noqa: PLC0415 (imported only if tracing is on)

    try:
        _STATE.backend = otel.OtelBackend(service)
    except ValueError as error:
        print(f"sortbelt: an OTEL_… variable is not acceptable: {error}", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        sys.exit(2)


def close() -> None:
    """Send the remaining spans, for a moment, and stop tracing."""
    backend, _STATE.backend = _STATE.backend, None
    if backend is not None:
        backend.close()


def is_enabled() -> bool:
    """Return whether tracing is on."""
    return _STATE.backend is not None


def child_span(name: str, function: Callable[..., Any] | None = None) -> AbstractContextManager[spans.Span]:
    """Start a span within the current one of this thread, maybe of a function; does nothing if there is none."""
    backend = _STATE.backend
    if backend is None:
        return _NOOP_CONTEXT
    return (
        backend.child_span(name if function is None else f"{name} {getattr(function, '__name__', '')}") or _NOOP_CONTEXT
    )


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function so that each call is a `child_span`."""

    def decorator(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            if _STATE.backend is None:
                return function(*args, **kwargs)
            with child_span(name):
                return function(*args, **kwargs)

        return wrapper

    return decorator


def server_span(name: str, headers: Mapping[str, str], start_ns: int) -> AbstractContextManager[spans.Span]:
    """Start the span of a request that began at `start_ns`; it continues the trace of the `traceparent` header."""
    backend = _STATE.backend
    return _NOOP_CONTEXT if backend is None else backend.server_span(name, headers, start_ns)


def client_span(
    name: str, attributes: spans.Attributes, links: Mapping[str, str | None]
) -> AbstractContextManager[spans.Span]:
    """Start the span of an outgoing request, with links to the traces of jobs (job id: traceparent)."""
    backend = _STATE.backend
    return _NOOP_CONTEXT if backend is None else backend.client_span(name, attributes, links)


def record_span(
    finished_span: spans.FinishedSpan,
    children: Sequence[spans.FinishedSpan],
    links: Mapping[str, str | None] | None = None,
) -> None:
    """Record a finished span with its children; without `links` as a child of the current span."""
    if _STATE.backend is not None:
        _STATE.backend.record_span(finished_span, children, links)


def traceparent() -> str | None:
    """Return the current span of this thread as a W3C `traceparent`; None if there is none."""
    return None if _STATE.backend is None else _STATE.backend.traceparent()


def current_span() -> spans.Span:
    """Return the current span of this thread."""
    return _NOOP_SPAN if _STATE.backend is None else _STATE.backend.current_span()


def monotonic_to_unix_ns(monotonic_seconds: float) -> int:
    """Convert a time of the monotonic clock to nanoseconds since the epoch."""
    return time.time_ns() - int((time.monotonic() - monotonic_seconds) * 1e9)
