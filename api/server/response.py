"""Responses of the ASGI adapter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from api.http import problems
from api.server.request_body import Message
from core import json_values


@dataclass(frozen=True)
class Response:
    """A response: its head, and its body in chunks; a buffered one has one chunk, of known length."""

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: Iterator[bytes]
    is_buffered: bool
    close: Callable[[], None] = lambda: None


def problem_response(scope: Message, status: int, code: str, detail: str) -> Response:
    """Return a problem of the adapter's own, in the shape of all others."""
    request_id = problems.normalize_request_id(dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1"))
    headers = {
        "content-type": "application/problem+json",
        "x-content-type-options": "nosniff",
        "x-request-id": request_id,
        "retry-after": str(problems.RETRY_AFTER_SECONDS),
        "cache-control": problems.NO_STORE,
        "connection": "close",
    }
    body = json_values.encode_json(problems.problem_body(status, code, detail, request_id))
    raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Response(status, raw_headers, iter([body]), is_buffered=True)
