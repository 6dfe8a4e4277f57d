"""Request tracing: each request is a span that continues the caller's trace and is returned in `traceresponse`."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import flask

from api.http import request_metrics, suspension
from api.schemas import ids
from api.services.request_metrics import KNOWN_METHODS
from core.tracing import spans, tracer

RECEIVED_AT_KEY = "sortbelt.received_at"
"""The key in the WSGI environment of the monotonic time at which the request came in."""
UNTRACED_PATHS = {"/livez", "/readyz", "/metrics"}  # polled every few seconds by monitoring


def register(app: suspension.App) -> None:
    """Trace every request of an app if tracing is on."""
    if tracer.is_enabled():
        app.request_span = _request_span
        app.after_request(_annotate_span)


@contextlib.contextmanager
def _request_span(environ: dict[str, Any]) -> Iterator[None]:
    if environ["PATH_INFO"] in UNTRACED_PATHS:
        yield
        return
    now_ns = time.time_ns()
    received_ns = tracer.monotonic_to_unix_ns(environ.get(RECEIVED_AT_KEY, time.monotonic()))
    headers = {name: environ.get(f"HTTP_{name.upper()}", "") for name in ("traceparent", "tracestate")}
    with tracer.server_span(_known_method(environ["REQUEST_METHOD"]), headers, received_ns):
        tracer.record_span(spans.FinishedSpan("receive", received_ns, max(received_ns, now_ns)), [])
        yield


def _known_method(method: str) -> str:
    return method if method in KNOWN_METHODS else "_OTHER"


def _annotate_span(response: flask.Response) -> flask.Response:
    """Add the route, status and job to the span; not the path or query, which may contain names."""
    traceparent = tracer.traceparent()
    if traceparent is None:
        return response
    response.headers["traceresponse"] = traceparent
    method, route, status = _known_method(flask.request.method), request_metrics.current_route(), response.status_code
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
    }
    attributes |= {"sortbelt.request.id": flask.g.request_id}
    span = tracer.current_span()
    span.set_attributes({**attributes, **_job_attribute(response)}, f"{method} {route}")
    if status >= 500:
        span.set_error(str(status))
    return response


def _job_attribute(response: flask.Response) -> dict[str, str]:
    """Return the id of the job in the path or in the header Location."""
    job_id = (flask.request.view_args or {}).get("job_id") or response.headers.get("Location", "").rpartition("/")[2]
    return {"sortbelt.job.id": job_id} if ids.is_id(job_id) else {}
