"""Every way in which the client fails, each on the arrow where it happens.

    you ──────BadInput───────▶ request        yours to mend, before anything is sent
    request ──Unreachable────▶ server         no answer, or none that is Sortbelt's
    server ───Refused────────▶ answer         a problem document, by its HTTP status:
                ├─ KeyRefused 401, 403   ├─ NotFound 404, 410   ├─ Conflict 409   ├─ Invalid 400, 413, 415, 422
                └─ ServerFault 5xx ─ Busy 429, 503 (says when to come again)
    answer ───StillRunning───▶ you            `wait` ran out of time
    results ──TooManyFailures▶ you            more failed than a folder run was told to bear
    webhook ──BadSignature───▶ you            it is not from whom it should be

Every error has `code` (stable, for machines), `status` and `request_id` (None where no server answered).
"""

from collections.abc import Mapping
from typing import Any


class SortbeltError(Exception):
    """Whatever we raise on purpose; its text is one sentence for a person."""

    code = "error"
    status: int | None = None
    request_id: str | None = None


class BadInput(SortbeltError):
    """What was asked for cannot be done: no such file, an empty folder, no key."""

    code = "bad_input"

    def __init__(self, message: str, code: str = "bad_input") -> None:
        super().__init__(message)
        self.code = code


class Unreachable(SortbeltError):
    """No Sortbelt server answers."""

    code = "unreachable"


class StillRunning(SortbeltError):
    """The job had not ended when the time to wait was over."""

    code = "still_running"


class TooManyFailures(SortbeltError):
    """More pictures of a folder failed than were allowed."""

    code = "too_many_failures"


class BadSignature(SortbeltError):
    """A webhook was not sent by the server that shares the secret, or not now."""

    code = "bad_signature"


class Refused(SortbeltError):
    """The server answered with a problem document.

    Attributes:
        errors: one mapping per image that the problem is about: `image`, `code`, `detail`.
        retry_after: seconds after which to try again, if the server said so.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        text = str(problem.get("detail") or problem.get("title") or f"The server answered {status}.")
        super().__init__(text)
        self.status = status
        self.code = str(problem.get("code") or f"http_{status}")
        self.request_id = problem.get("request_id")
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or [])
        self.retry_after = retry_after


class KeyRefused(Refused):
    """The key is missing, wrong, revoked, or has not the role for this."""


class NotFound(Refused):
    """There is no such thing among yours."""


class Conflict(Refused):
    """The thing is not in a state for this."""


class Invalid(Refused):
    """The request cannot be taken as it is."""


class ServerFault(Refused):
    """The server failed at it."""


class Busy(ServerFault):
    """The server asks to come again later."""


_BY_STATUS: dict[int, type[Refused]] = {
    401: KeyRefused,
    403: KeyRefused,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: Busy,
    503: Busy,
}


def refusal(status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> Refused:
    """The error that stands for an answer of this status."""
    fallback = ServerFault if status >= 500 else Invalid
    return _BY_STATUS.get(status, fallback)(status, problem, retry_after)
