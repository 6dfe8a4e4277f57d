"""The wire: one HTTP request and its answer, tried again while that can help."""

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from sortbelt import __version__, errors

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
GATEWAY_LOST_IT = {502, 504}
NOTICED_SECONDS = 1.0  # a wait that somebody may wonder about


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds a request is tried again."""

    first: float = 2.0  # nobody has answered yet, so the address may be wrong
    down: float = 10.0  # nobody answers any more
    busy: float = 60.0  # the server says: later


class Body(Protocol):
    """What is sent, in pieces; iterating twice must give the same bytes, because a request may be repeated."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Content-Type and Content-Length."""

    def __iter__(self) -> Iterator[bytes]: ...


class Manners:
    """What both kinds of transport do alike: what an answer means, and when a request is tried again.

    Raises:
        errors.BadInput: the address or the key cannot be right.
    """

    def __init__(
        self, url: str, key: str, *, timeout: float, patience: Patience, notice: Callable[[str], None] | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self.notice = notice
        self._reached = False
        self.options: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {_plausible_key(key)}", "User-Agent": f"sortbelt/{__version__}"},
            "timeout": httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            **_options(self.url),
        }

    def accepted(self, answer: httpx.Response) -> httpx.Response:
        """The answer, if it is none of the problems; else the error that stands for it is raised."""
        self._reached = True
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    def silence(self, error: httpx.TransportError) -> errors.Unreachable:
        """The error that stands for no answer."""
        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return _Silence(self.url, str(error) or type(error).__name__, never_sent=never_sent)

    def _refusal(self, answer: httpx.Response) -> errors.SortbeltError:
        if "application/problem+json" in answer.headers.get("Content-Type", ""):
            return errors.refusal(answer.status_code, answer.json(), retry_after(answer))
        if answer.status_code in {413, 429} or answer.status_code >= 500:  # proxies answer these by themselves
            return errors.refusal(answer.status_code, {"title": answer.reason_phrase}, retry_after(answer))
        return errors.Unreachable(f"What answers at {self.url} is no Sortbelt server (HTTP {answer.status_code}).")

    def before_next(self, problem: errors.SortbeltError, attempt: int, started: float, *, repeatable: bool) -> float:
        """How many seconds to wait before the next try; raises the problem if there shall be none."""
        pause = self._pause(problem, attempt, time.monotonic() - started, repeatable=repeatable)
        if pause is None:
            raise problem
        if self.notice and isinstance(problem, errors.Busy) and pause >= NOTICED_SECONDS:
            self.notice(f"Waiting {pause:.0f} s: {problem}")
        elif self.notice and attempt:
            self.notice(f"{problem} Trying again.")
        return pause

    def _pause(self, problem: errors.SortbeltError, attempt: int, waited: float, *, repeatable: bool) -> float | None:
        if isinstance(problem, errors.Busy):
            pause, limit = problem.retry_after or _backoff(attempt), self._patience.busy
        elif isinstance(problem, _Silence) or problem.status in GATEWAY_LOST_IT:
            if not repeatable and not getattr(problem, "never_sent", False):
                return None
            pause, limit = _backoff(attempt), self._patience.down if self._reached else self._patience.first
        else:
            return None
        return pause if waited + pause <= limit else None


class Transport(Manners):
    """Requests to one server with one key; may be shared between threads."""

    def __init__(self, url: str, key: str, **manners: Any) -> None:
        super().__init__(url, key, **manners)
        self._http = httpx.Client(**self.options)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        **request: Any,
    ) -> httpx.Response:
        """The answer to a request, which is repeated while nobody answers or the server is busy.

        Args:
            method: of HTTP.
            path: with its leading slash.
            body: the pictures to send, if any.
            headers: besides those of the body.
            repeatable: False where doing it twice would show: then it is repeated only if it cannot have been done.
            request: `params` and `json`, as httpx takes them.

        Raises:
            errors.Unreachable: nobody answered for as long as the patience lasts.
            errors.Refused: the answer is a problem.
        """
        started = time.monotonic()
        request |= {"headers": all_headers(headers, body)} | ({"content": body} if body else {})
        for attempt in itertools.count():
            try:
                return self._once(method, path, request)
            except (errors.Unreachable, errors.ServerFault) as problem:
                pause = self.before_next(problem, attempt, started, repeatable=repeatable)
            time.sleep(pause)
        raise AssertionError  # the loop above has no end

    def _once(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            return self.accepted(self._http.request(method, self.url + path, **request))
        except httpx.TransportError as error:
            raise self.silence(error) from None

    def stream(self, path: str, accept: str, params: Mapping[str, Any]) -> Iterator[bytes]:
        """The body of an answer in this form, piece by piece; it is not repeated, since half of it may be written.

        Raises:
            errors.BadInput: the server does not know this form.
            errors.Unreachable: nobody answers, or the answer broke off.
            errors.Refused: the answer is a problem.
        """
        try:
            headers = all_headers({"Accept": accept}, None)
            with self._http.stream("GET", self.url + path, params=params, headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                if accept not in self.accepted(answer).headers.get("Content-Type", ""):
                    raise errors.BadInput(f"This server does not answer in the form {accept}.", "not_acceptable")
                yield from answer.iter_bytes()
        except httpx.TransportError as error:
            raise self.silence(error) from None


class _Silence(errors.Unreachable):
    """Nobody answered this once."""

    def __init__(self, url: str, why: str, *, never_sent: bool) -> None:
        super().__init__(
            f"No Sortbelt server answers at {url} ({why}): start one with `sortbelt up`, or check SORTBELT_URL."
        )
        self.never_sent = never_sent


def retry_after(answer: httpx.Response) -> float | None:
    """The seconds in an answer's Retry-After header, if it has one."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.replace(".", "", 1).isdigit() else None


def all_headers(headers: Mapping[str, str] | None, body: Body | None) -> dict[str, str]:
    """The headers of a request with those of its body, and the trace that its caller is in."""
    return {**_trace(), **(headers or {}), **(body.headers if body else {})}


def _trace() -> dict[str, str]:
    """What tells the server of the caller's current span; nothing for who does not use OpenTelemetry."""
    carrier: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:  # who has a span has imported it
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415 (not ours to want)

        tracecontext.TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _backoff(attempt: int) -> float:
    spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients out, protects nothing
    return min(5.0, 0.1 * 2.0 ** min(attempt, 10)) * spread


def _plausible_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise errors.BadInput("The key is malformed: a Sortbelt key looks like sb_1a2b3c4d_…", "bad_key")
    return key


def _options(url: str) -> dict[str, Any]:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise errors.BadInput(f"{url!r} is no address: {error}.", "bad_url") from None
    if address.scheme not in {"http", "https"} or not address.host:
        raise errors.BadInput(f"{url!r} is no address: it must begin with http:// or https://.", "bad_url")
    # Plain HTTP needs no certificates, whose loading takes 90 ms; this machine needs no proxy to talk to itself.
    return {"verify": address.scheme == "https", "trust_env": address.host not in LOOPBACK}
