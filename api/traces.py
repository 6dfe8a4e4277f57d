"""Traces of requests: each is a span, which goes on with its caller's trace, and is told of in `traceresponse`."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import flask

from api import asked, meter
from jobs import tracing

BEGAN = "sortbelt.began"
"""Where the front leaves when a request came in, by the monotonic clock."""
QUIET = {"/livez", "/readyz", "/metrics"}  # asked every few seconds, by machines


def register(app: flask.Flask) -> None:
    """Trace every request of an application, if anything is traced; before all others, so that it sees all."""
    if not tracing.is_on():
        return
    inner = app.wsgi_app

    def traced(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] in QUIET:
            return inner(environ, start)
        now, began = time.time_ns(), tracing.since(environ.get(BEGAN, time.monotonic()))
        headers = {name: environ.get(f"HTTP_{name.upper()}", "") for name in ("traceparent", "tracestate")}
        with tracing.served(_method(environ["REQUEST_METHOD"]), headers, began):
            tracing.record(tracing.Step("receive", began, max(began, now)), [])
            return inner(environ, start)

    app.wsgi_app = traced  # type: ignore[assignment, method-assign]  # Flask's documented way
    app.after_request(_tell)


def _method(given: str) -> str:
    return given if given in meter.METHODS else "_OTHER"


def _tell(response: flask.Response) -> flask.Response:
    """Say what it was and how it went. Not its path, nor its query: names may be in them."""
    here = tracing.traceparent()
    if here is None:
        return response
    response.headers["traceresponse"] = here
    method, route, status = _method(flask.request.method), meter.route(), response.status_code
    about: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
    }
    about |= {"sortbelt.request.id": flask.g.request_id}
    span = tracing.current()
    span.tell({**about, **_job(response)}, f"{method} {route}")
    if status >= 500:
        span.fail(str(status))
    return response


def _job(response: flask.Response) -> dict[str, str]:
    """The job that it speaks of: by its path, or by where it is told to be."""
    told = (flask.request.view_args or {}).get("job_id") or response.headers.get("Location", "").rpartition("/")[2]
    return {} if asked.id_of(told) is None else {"sortbelt.job.id": told}
