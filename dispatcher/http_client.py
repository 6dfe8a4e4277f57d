"""HTTP client of the dispatcher: one request, to an allowed destination, with a limit on its total time."""

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import certifi
import httpcore

from core.webhooks import url_policy

TIMEOUT_ERRORS = (httpcore.TimeoutException, TimeoutError)
CONNECTION_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError)


class HttpClient:
    """Requests to destinations that the rules allow; TLS trusts the file `SSL_CERT_FILE`, or else certifi."""

    def __init__(self, rules: str) -> None:
        self._policy = url_policy.UrlPolicy.parse(rules)
        self._ssl_context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())

    @contextlib.contextmanager
    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], timeout_seconds: float, body: bytes | None = None
    ) -> Iterator[httpcore.Response]:
        """Send one request, without redirects or proxies, and yield its response; the time limit holds for all of it.

        Raises:
            url_policy.DestinationForbidden: the policy allows no address of the host.
            TIMEOUT_ERRORS: the time is over.
            CONNECTION_ERRORS: there is no connection, or no response by HTTP.
        """
        target = httpcore.URL(url)
        backend = GuardedBackend(self._policy, is_https=target.scheme == b"https", timeout_seconds=timeout_seconds)
        all_headers = {"User-Agent": "Sortbelt", "Connection": "close", **headers}
        with (
            httpcore.ConnectionPool(ssl_context=self._ssl_context, network_backend=backend) as pool,
            pool.stream(method, target, headers=[*all_headers.items()], content=body) as response,
        ):
            yield response


class GuardedBackend(httpcore.NetworkBackend):
    """Connect to addresses that the URL policy allows; the whole exchange has one deadline."""

    def __init__(self, policy: url_policy.UrlPolicy, *, is_https: bool, timeout_seconds: float) -> None:
        self._policy = policy
        self._is_https = is_https
        self._deadline = time.monotonic() + timeout_seconds
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (one limit applies to all)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's allowed addresses that answers.

        Raises:
            url_policy.DestinationForbidden: no address is allowed, or known.
            httpcore.ConnectError: none answers.
            httpcore.ConnectTimeout: the time is over.
        """
        try:
            addresses = self._policy.allowed_addresses(host, url_policy.resolve(host, port), is_https=self._is_https)
        except (OSError, UnicodeError) as error:
            is_temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            refusal = url_policy.NameServerUnavailable if is_temporary else url_policy.DestinationForbidden
            raise refusal(url_policy.UNREACHABLE_HOST) from None
        last_error: Exception = url_policy.DestinationForbidden(url_policy.UNREACHABLE_HOST)
        for number, address in enumerate(addresses):
            # A part of the time, because a packet filter may drop all that is sent to the first of them.
            seconds = self.remaining(httpcore.ConnectTimeout) / (len(addresses) - number)
            try:
                stream = self._backend.connect_tcp(str(address), port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last_error = error
            else:
                return _DeadlineStream(stream, self)
        raise last_error

    def remaining(self, timeout_error: type[Exception]) -> float:
        """Return the remaining seconds.

        Raises:
            timeout_error: none remain.
        """
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise timeout_error("no response in time")
        return seconds


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the whole: a receiver may not send byte by byte."""

    def __init__(self, stream: httpcore.NetworkStream, guard: GuardedBackend) -> None:
        self._stream = stream
        self._guard = guard

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._guard.remaining(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._guard.remaining(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        remaining = self._guard.remaining(httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, remaining), self._guard)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
