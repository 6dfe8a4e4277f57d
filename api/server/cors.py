"""Cross-origin resource sharing: which browser apps of other origins may call the API. Never with credentials."""

from collections.abc import Sequence

from api.server.deferred_responses import Send
from api.server.request_body import Message
from api.server.response import Response

MAX_AGE_SECONDS = 7_200  # browsers ask again after this time
METHODS = "GET, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS = (
    "Authorization, Content-Type, Content-Encoding, Accept, Idempotency-Key, Prefer, If-None-Match, Last-Event-ID, "
    "X-Request-ID, traceparent, tracestate"
)
RESPONSE_HEADERS = (
    "Location, Link, ETag, Retry-After, Preference-Applied, X-Request-ID, RateLimit, RateLimit-Policy, "
    "WWW-Authenticate, Sortbelt-Notice"
)


class CorsPolicy:
    """Allow scripts of other origins to call the API.

    Args:
        origins: the origins whose scripts may call the API, or `*` for any.
    """

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self._origins = frozenset(origins)

    def preflight(self, scope: Message) -> Response | None:
        """Return the response to a preflight request of an allowed origin; None for any other request."""
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in dict(scope["headers"]):
            return None
        if not self._is_allowed(scope):
            return None
        allowed = {
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": REQUEST_HEADERS,
            "access-control-max-age": str(MAX_AGE_SECONDS),
            "content-length": "0",
        }
        return Response(204, _encode(allowed), iter([b""]), is_buffered=True)

    def wrap(self, scope: Message, send: Send) -> Send:
        """Return a function that sends a response with the headers that let the script read it."""
        if not self._origins:
            return send
        origin = dict(scope["headers"]).get(b"origin", b"") if self._is_allowed(scope) else b""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                shared = {"access-control-expose-headers": RESPONSE_HEADERS} if origin else {}
                extra = [*_encode(shared), *([(b"access-control-allow-origin", origin)] if origin else [])]
                message = {**message, "headers": [*message["headers"], (b"vary", b"Origin"), *extra]}
            await send(message)

        return send_with_headers

    def _is_allowed(self, scope: Message) -> bool:
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin-1").lower()
        return bool(origin) and ("*" in self._origins or origin in self._origins)


def _encode(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
