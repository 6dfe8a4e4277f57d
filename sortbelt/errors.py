"""Exceptions of the client, each on the arrow where it is raised.

    caller ───BadInput───────▶ request        wrong arguments; raised before anything is sent
    request ──Unreachable────▶ server         no response, or none that is Sortbelt's
    server ───ApiError───────▶ response       problem details, by HTTP status:
                ├─ AuthenticationError 401, 403   ├─ NotFound 404, 410
                ├─ Conflict 409                   ├─ InvalidRequest 400, 413, 415, 422
                └─ ServerError 5xx ─ Busy 429, 503 (with `retry_after`)
    response ─WaitTimeout────▶ caller         `wait` ran out of time
    results ──TooManyFailures▶ caller         more images failed than a folder run allows
    webhook ──BadSignature───▶ caller         not signed by the expected server

Every error has `code` (stable, for machines), `status` and `request_id` (both None without a response).
"""

from collections.abc import Mapping
from typing import Any


class SortbeltError(Exception):
    """Base class of all errors of this package; the text is one sentence for people."""

    code = "error"
    status: int | None = None
    request_id: str | None = None


class BadInput(SortbeltError):
    """The arguments cannot be used: no such file, an empty folder, no key."""

    code = "bad_input"

    def __init__(self, message: str, code: str = "bad_input") -> None:
        super().__init__(message)
        self.code = code


class Unreachable(SortbeltError):
    """No Sortbelt server responds at the address."""

    code = "unreachable"


class WaitTimeout(SortbeltError):
    """The job did not end within the timeout."""

    code = "still_running"


class TooManyFailures(SortbeltError):
    """More images failed than the run allows."""

    code = "too_many_failures"


class BadSignature(SortbeltError):
    """The webhook is not signed with this secret, or its timestamp is too old or too new."""

    code = "bad_signature"


class ApiError(SortbeltError):
    """The server responded with problem details (RFC 9457).

    Attributes:
        errors: one mapping per image at fault: `image`, `code`, `detail`, and `pointer` into the request body.
        retry_after: seconds to wait before a retry, if the server sent `Retry-After`.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        text = str(problem.get("detail") or problem.get("title") or f"The server responded with status {status}.")
        super().__init__(text)
        self.status = status
        self.code = str(problem.get("code") or f"http_{status}")
        self.request_id = problem.get("request_id")
        self.errors: list[dict[str, Any]] = [e for e in problem.get("errors") or () if isinstance(e, dict)]
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """The key is missing, wrong, revoked or expired, or its role does not allow this request."""


class NotFound(ApiError):
    """The object does not exist, or this key may not see it."""


class Conflict(ApiError):
    """The state of the object does not allow this request."""


class InvalidRequest(ApiError):
    """The server rejects the request as it is."""


class ServerError(ApiError):
    """The server failed to process the request."""


class Busy(ServerError):
    """The server cannot process the request now (429, 503); retry after `retry_after` seconds."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: Busy,
    503: Busy,
}


def error_for_status(status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> ApiError:
    """Create the exception for an HTTP status."""
    fallback = ServerError if status >= 500 else InvalidRequest
    return _BY_STATUS.get(status, fallback)(status, problem, retry_after)
