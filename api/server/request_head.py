"""The head of a request: what the ASGI adapter reads of its scope, once."""

import functools
from collections.abc import Mapping

from api.schemas import ids
from api.server.request_body import Message

BODILESS_METHODS = {"GET", "HEAD", "DELETE", "OPTIONS"}


class RequestHead:
    """The method, path and headers of a request."""

    def __init__(self, scope: Message) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.address = str((scope.get("client") or ("", 0))[0])
        """The address of the client."""
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])

    @functools.cached_property
    def bearer_key(self) -> str:
        """The API key; empty if there is none."""
        return self.headers.get(b"authorization", b"").decode("latin-1").partition(" ")[2].strip()

    @property
    def content_length(self) -> int:
        """The declared length of the body; 0 if there is none, or it is malformed."""
        length = self.headers.get(b"content-length", b"")
        return int(length[: ids.MAX_DIGITS]) if length.isdigit() else 0

    @property
    def has_length(self) -> bool:
        """Whether a length is declared."""
        return b"content-length" in self.headers

    @property
    def is_bodiless(self) -> bool:
        """Whether the request has no body by its method and headers."""
        return self.method in BODILESS_METHODS and not self.has_length and b"transfer-encoding" not in self.headers

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON."""
        mimetype = self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return mimetype.startswith(b"application/") and mimetype.endswith((b"/json", b"+json"))

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue"
