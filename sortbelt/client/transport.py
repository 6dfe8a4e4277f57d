"""HTTP transport: send one request and return its response, with retries."""

import contextlib
import datetime as dt
import email.utils
import itertools
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from sortbelt import __version__, errors
from sortbelt.client import multipart

LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}
GATEWAY_ERROR_STATUSES = {502, 504}
NOTICE_HEADER = "Sortbelt-Notice"  # a sentence about the request, such as an assumed time zone
MIN_REPORTED_WAIT_SECONDS = 1.0
MAX_RETRY_AFTER_SECONDS = 1e9  # more than any retry policy waits, and little enough for time arithmetic

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds for which a request is retried, by cause."""

    first: float = 2.0  # no response so far: the address may be wrong
    down: float = 10.0  # the server responded before, but does not now
    busy: float = 60.0  # 429 or 503


class BaseTransport:
    """Map responses to errors and decide on retries, for both transports.

    Args:
        url: base URL of the server.
        key: API key.
        timeout: seconds that one response may take.
        retry_policy: for how long requests are retried.
        notice: called with one sentence when a request waits or is retried.

    Raises:
        errors.BadInput: the URL or the key is malformed.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float,
        retry_policy: RetryPolicy | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._retry_policy = retry_policy or RetryPolicy()
        self.notice = notice
        self._server_reached = False
        self.httpx_options: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {_validated_key(key)}", "User-Agent": f"sortbelt/{__version__}"},
            "timeout": httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            **_url_options(self.url),
        }

    def raise_for_status(self, response: httpx.Response) -> httpx.Response:
        """Return the response, or raise the exception for its status."""
        self._server_reached = True
        if response.is_success:
            if "text/html" in response.headers.get("Content-Type", ""):
                raise self._not_sortbelt_error("it sends a web page")
            if self.notice and NOTICE_HEADER in response.headers:
                self.notice(response.headers[NOTICE_HEADER])
            return response
        raise self._error_from_response(response)

    def no_response_error(self, error: httpx.TransportError) -> errors.Unreachable:
        """Create the exception for a request without a response."""
        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return _NoResponse(self.url, str(error) or type(error).__name__, never_sent=never_sent)

    def _error_from_response(self, response: httpx.Response) -> errors.SortbeltError:
        status = response.status_code
        if (problem := _problem_details(response)) is not None:
            return errors.error_for_status(status, problem, retry_after(response))
        if status in {413, 429} or status >= 500:  # proxies send these themselves
            return errors.error_for_status(status, {"title": response.reason_phrase}, retry_after(response))
        return self._not_sortbelt_error(f"HTTP {status}")

    def parse(self, response: httpx.Response, parser: Callable[[httpx.Response], T]) -> T:
        """Return the parsed response.

        Raises:
            errors.Unreachable: it should be JSON, and is not.
        """
        try:
            return parser(response)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise self._not_sortbelt_error("its response is not JSON") from None

    def _not_sortbelt_error(self, reason: str) -> errors.Unreachable:
        return errors.Unreachable(f"{self.url} is not a Sortbelt server ({reason}): check SORTBELT_URL.")

    def retry_delay(self, problem: errors.SortbeltError, attempt: int, started_at: float, *, repeatable: bool) -> float:
        """Return the seconds to wait before the next attempt; raise the problem if the request is not retried."""
        delay = self._delay_if_retryable(problem, attempt, time.monotonic() - started_at, repeatable=repeatable)
        if delay is None:
            is_lost = isinstance(problem, _NoResponse) and not problem.never_sent
            if not repeatable and (is_lost or problem.status in GATEWAY_ERROR_STATUSES):
                reason = problem.reason if isinstance(problem, _NoResponse) else f"HTTP {problem.status}"
                raise errors.Unreachable(
                    f"{self.url} did not respond ({reason}), but may have carried out the request: check that before "
                    "you repeat it."
                ) from problem
            raise problem
        if self.notice and isinstance(problem, errors.Busy) and delay >= MIN_REPORTED_WAIT_SECONDS:
            self.notice(f"Waiting {delay:.0f} s: {problem}")
        elif self.notice and attempt:
            self.notice(f"{problem} Retrying.")
        return delay

    def _delay_if_retryable(
        self, problem: errors.SortbeltError, attempt: int, elapsed: float, *, repeatable: bool
    ) -> float | None:
        policy = self._retry_policy
        if isinstance(problem, errors.Busy):
            delay, limit = problem.retry_after or _backoff(attempt), policy.busy
        elif isinstance(problem, _NoResponse) or problem.status in GATEWAY_ERROR_STATUSES:
            if not repeatable and not getattr(problem, "never_sent", False):
                return None
            delay, limit = _backoff(attempt), policy.down if self._server_reached else policy.first
        else:
            return None
        return delay if elapsed + delay <= limit else None


class Transport(BaseTransport):
    """Requests to one server with one key. Thread-safe."""

    def __init__(self, url: str, key: str, **options: Any) -> None:
        super().__init__(url, key, **options)
        self._http = httpx.Client(**self.httpx_options)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: multipart.Multipart | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        **options: Any,
    ) -> httpx.Response:
        """Send a request and return the response; retry while the server is down or busy.

        Args:
            method: HTTP method.
            path: with its leading slash.
            body: request body with headers of its own.
            headers: further headers.
            repeatable: False for a request that is not idempotent: it is retried only if it was never sent.
            **options: `params` and `json`, as for `httpx.Client.request`.

        Raises:
            errors.Unreachable: no response for as long as the retry policy allows.
            errors.ApiError: the server responded with problem details.
        """
        started_at = time.monotonic()
        options |= {"headers": merge_headers(headers, body)} | ({"content": body} if body else {})
        for attempt in itertools.count():
            try:
                return self.raise_for_status(self._http.request(method, self.url + path, **options))
            except httpx.TransportError as error:
                problem: errors.SortbeltError = self.no_response_error(error)
            except (errors.Unreachable, errors.ServerError) as error:
                problem = error
            delay = self.retry_delay(problem, attempt, started_at, repeatable=repeatable)
            del problem  # it refers to this frame, and so to the body, which would be kept
            time.sleep(delay)
        raise AssertionError  # the loop above has no end

    def stream(self, method: str, path: str, accept: str, **options: Any) -> Iterator[bytes]:
        """Yield the response body in chunks. Without retries: half of the body may be written already.

        `options` are `params` and `json`, as for `httpx.Client.request`.

        Raises:
            errors.BadInput: the server does not support this media type.
            errors.Unreachable: no response, or an incomplete one.
            errors.ApiError: the server responded with problem details.
        """
        try:
            headers = merge_headers({"Accept": accept}, None)
            with self._http.stream(method, self.url + path, headers=headers, **options) as response:
                if not response.is_success:
                    response.read()
                if accept.partition(";")[0] not in self.raise_for_status(response).headers.get("Content-Type", ""):
                    raise errors.BadInput(
                        f"This server does not support the format {accept}: choose another --format.", "not_acceptable"
                    )
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise self.no_response_error(error) from None


class _NoResponse(errors.Unreachable):
    """One attempt had no response."""

    def __init__(self, url: str, reason: str, *, never_sent: bool) -> None:
        super().__init__(
            f"No Sortbelt server responds at {url} ({reason}): start one with `sortbelt up`, or check SORTBELT_URL."
        )
        self.reason = reason
        self.never_sent = never_sent


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of the Retry-After header, a number or an HTTP date; None if missing or malformed."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = email.utils.parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return min(max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds()), MAX_RETRY_AFTER_SECONDS)
    return None


def merge_headers(headers: Mapping[str, str] | None, body: multipart.Multipart | None) -> dict[str, str]:
    """Merge the request's headers with those of its body and of the caller's trace."""
    return {**_trace_headers(), **(headers or {}), **(body.headers if body else {})}


def _trace_headers() -> dict[str, str]:
    """Return `traceparent` for the caller's current span; empty without OpenTelemetry."""
    carrier: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:  # a caller with a span has imported it
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415 - optional

        tracecontext.TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _problem_details(response: httpx.Response) -> Mapping[str, Any] | None:
    if "application/problem+json" not in response.headers.get("Content-Type", ""):
        return None
    try:
        problem = response.json()
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None


def _backoff(attempt: int) -> float:
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients out, protects nothing
    return min(5.0, 0.1 * 2.0 ** min(attempt, 10)) * jitter


def _validated_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise errors.BadInput("The key is malformed: a Sortbelt key looks like sb_1a2b3c4d_…", "bad_key")
    return key


def _url_options(url: str) -> dict[str, Any]:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise errors.BadInput(
            f"{url!r} is not a URL ({error}): write http://HOST:PORT, an IPv6 address in brackets.", "bad_url"
        ) from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise errors.BadInput(f"{url!r} is not a URL: it must begin with http:// or https://.", "bad_url")
    # Plain HTTP needs no certificates, whose loading takes 90 ms; loopback needs no proxy, but its own certificates.
    certificates = httpx.create_ssl_context() if parsed.scheme == "https" else None
    return {"verify": certificates, "trust_env": parsed.host not in LOOPBACK_HOSTS}
