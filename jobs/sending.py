"""Sending a webhook: one attempt over HTTP, to where it may go, and not for longer than it may take."""

import contextlib
import email.utils
import math
import os
import ssl
import time
from collections.abc import Iterable
from typing import Any

import certifi
import httpcore

from jobs import destinations, webhooks

SECONDS = 15.0  # for one attempt, all in all
MOST_READ_BYTES = 4_096  # of an answer, whose body means nothing to us


def trust() -> ssl.SSLContext:
    """Whose certificates are believed: those of `SSL_CERT_FILE`, else what browsers believe."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


def send(
    url: str, headers: dict[str, str], body: bytes, rules: destinations.Rules, tls: ssl.SSLContext
) -> webhooks.Outcome:
    """Make one attempt: a POST, no redirects, no proxies, as much time as `SECONDS` in all."""
    asked = httpcore.URL(url)
    way = Way(rules, secure=asked.scheme == b"https", seconds=SECONDS)
    fields = {"Content-Type": "application/json", "User-Agent": "Sortbelt", "Connection": "close", **headers}
    try:
        with (
            httpcore.ConnectionPool(ssl_context=tls, network_backend=way) as pool,
            pool.stream("POST", asked, headers=[*fields.items()], content=body) as answer,
        ):
            _skim(answer)
            return _outcome(answer)
    except destinations.Forbidden as error:
        return webhooks.Outcome(None, f"It may not go there: {error}.")
    except (httpcore.TimeoutException, TimeoutError):
        return webhooks.Outcome(None, f"There was no answer within {SECONDS:g} seconds.")
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        return webhooks.Outcome(None, f"No connection, or no HTTP: {type(error).__name__} {error}"[:500])


class Way(httpcore.NetworkBackend):
    """Connects where the rules allow it, and gives up when the time for the whole exchange is over."""

    def __init__(self, rules: destinations.Rules, *, secure: bool, seconds: float) -> None:
        self._rules = rules
        self._secure = secure
        self._until = time.monotonic() + seconds
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (one limit holds for all)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that may be connected to and answers.

        Raises:
            destinations.Forbidden: none may.
            httpcore.ConnectError: none answers.
            httpcore.ConnectTimeout: the time is over.
        """
        try:
            addresses = self._rules.judge(host, destinations.resolve(host, port), secure=self._secure)
        except (OSError, UnicodeError):
            raise destinations.Forbidden(destinations.NOWHERE) from None
        failed: Exception = destinations.Forbidden(destinations.NOWHERE)
        for address in addresses:
            left = self.left(httpcore.ConnectTimeout)
            try:
                stream = self._sockets.connect_tcp(str(address), port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _Timed(stream, self)
        raise failed

    def left(self, late: type[Exception]) -> float:
        """The seconds that are left.

        Raises:
            late: there are none.
        """
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise late("no answer in time")
        return seconds


class _Timed(httpcore.NetworkStream):
    """A connection whose every wait ends with the time of the whole: a receiver may not dribble."""

    def __init__(self, stream: httpcore.NetworkStream, way: Way) -> None:
        self._stream = stream
        self._way = way

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._way.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._way.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        left = self._way.left(httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._way)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _skim(answer: httpcore.Response) -> None:
    """Read a little of the answer: a receiver that is still writing would take an early end for a failure."""
    read = 0
    with contextlib.suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        for piece in answer.iter_stream():
            read += len(piece)
            if read > MOST_READ_BYTES:
                return


def _outcome(answer: httpcore.Response) -> webhooks.Outcome:
    if 200 <= answer.status < 300:
        return webhooks.Outcome(answer.status, None)
    what = "a redirect, which is not followed" if 300 <= answer.status < 400 else "which is not 2xx"
    after = {name.lower(): value for name, value in answer.headers}.get(b"retry-after", b"").decode("latin-1")
    return webhooks.Outcome(answer.status, f"The receiver answered {answer.status}, {what}.", _seconds(after.strip()))


def _seconds(after: str) -> float | None:
    """What a Retry-After says, as seconds or as a date."""
    if after.isascii() and after.isdecimal():
        return float(after[:9])
    try:
        seconds = email.utils.parsedate_to_datetime(after).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
