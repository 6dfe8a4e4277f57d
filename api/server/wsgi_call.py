"""Calls of the WSGI application, whose requests may be suspended."""

from collections.abc import Callable, Iterable
from typing import Any

from api.http import suspension
from api.server.response import Response

App = Callable[..., Iterable[bytes]]


def start(app: App, environ: dict[str, Any], *, suspends: bool = False) -> Response | suspension.SuspendedRequest:
    """Return the response to a request; with `suspends`, the request if it has to wait."""
    suspended: list[suspension.SuspendedRequest] = []
    if suspends:
        environ[suspension.SUSPEND_KEY] = suspended.append
    with environ["wsgi.input"]:  # closing frees the body; the request itself is a cycle that lives on for a while
        started: list[Any] = []
        body = app(environ, lambda status, headers, _=None: started.extend((status, headers)))
    return suspended[0] if suspended else _response(started, body)


def advance(request: suspension.SuspendedRequest) -> Response | suspension.SuspendedRequest:
    """Return the response to a request whose future is done."""
    started: list[Any] = []
    body = request.advance(lambda status, headers, _=None: started.extend((status, headers)))
    return request if body is None else _response(started, body)


def _response(started: list[Any], body: Iterable[bytes]) -> Response:
    close = getattr(body, "close", lambda: None)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in started[1]]
    status = int(started[0].split(" ", 1)[0])
    if not any(name == b"content-length" for name, _ in headers):
        return Response(status, headers, iter(body), is_buffered=False, close=close)
    try:
        return Response(status, headers, iter([b"".join(body)]), is_buffered=True)
    finally:
        close()
