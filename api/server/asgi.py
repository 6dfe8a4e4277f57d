"""ASGI adapter for the Flask app: buffer the request body, run the view in a thread pool, stream the response.

A WSGI server reads the body in the thread that runs the view, so that a handful of slow senders would block all others,
and so would slow readers of long responses. Here only a coroutine waits for them. Any ASGI server can run it.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures

from api.http import deferred as deferred_http
from api.http import long_poll, request_tracing, requests, server_sent_events
from api.server import (
    body_budget,
    content_encoding,
    cors,
    deferred_responses,
    proxy,
    request_body,
    view_runner,
)
from api.server.deferred_responses import Send
from api.server.request_body import ClientDisconnected, Message, Receive, RequestBody
from api.server.request_head import RequestHead
from api.server.response import Response, problem_response
from api.server.wsgi_environ import build_environ
from api.services import job_watcher as job_watcher_services
from api.services import request_metrics
from core import errors
from core.tracing import tracer

SMALL_BODY_BYTES = 65_536  # bodies up to this size are buffered before their key is checked
log = logging.getLogger(__name__)
Deferred = long_poll.LongPoll | server_sent_events.EventStream


class AsgiApp:
    """The ASGI application around the Flask app."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        *,
        threads: int,
        max_body_bytes: int,
        max_json_bytes: int = requests.MAX_JSON_BYTES,
        max_body_bytes_by_path: Mapping[str, int] | None = None,
        job_watcher: job_watcher_services.JobWatcher | None = None,
        is_authorized: Callable[[str, str], bool] = lambda _address, _key: True,
        is_cached: Callable[[str], bool] = lambda _key: False,
        is_known: Callable[[str], bool] = lambda _key: False,
        metrics: request_metrics.RequestMetrics | None = None,
        proxy_headers: proxy.ProxyHeaders = proxy.ProxyHeaders(),  # noqa: B008 (immutable)
        cors_policy: cors.CorsPolicy = cors.CorsPolicy(),  # noqa: B008 (immutable)
        busy_clients: set[tuple[str, int]] | None = None,
    ) -> None:
        """Serve `app`.

        Args:
            app: the WSGI application.
            threads: the number of views that run at a time.
            max_body_bytes: the limit for bodies.
            max_json_bytes: the limit for bodies that are JSON.
            max_body_bytes_by_path: higher limits for some paths.
            job_watcher: serves deferred responses.
            is_authorized: whether a large body may be buffered, by address and key; may block.
            is_cached: whether `is_authorized` is known to be true for a key; must not block.
            is_known: whether a key has been valid: it takes turns for threads by itself; must not block.
            metrics: counts requests that are rejected here.
            proxy_headers: says how callers see the server; by default there is no proxy.
            cors_policy: says which browser apps may call the API; by default none.
            busy_clients: holds the address and port of each client whose request is in progress.
        """
        self._metrics = metrics
        self._busy_clients = set() if busy_clients is None else busy_clients
        self._is_authorized = is_authorized
        self._is_cached = is_cached
        self._is_known = is_known
        # A pool of their own: a body must not wait for threads that are all in views.
        self._auth_threads = futures.ThreadPoolExecutor(2, thread_name_prefix="auth")
        self._job_watcher = job_watcher
        self._deferral = {} if job_watcher is None else {deferred_http.DEFERRED_KEY: None}
        self._views = view_runner.ViewRunner(app, threads)
        self._max_body_bytes = max_body_bytes
        self._max_json_bytes = max_json_bytes
        self._max_body_bytes_by_path = max_body_bytes_by_path or {}
        self._body_budget = body_budget.BodyBudget()
        self._proxy_headers = proxy_headers
        self._cors_policy = cors_policy

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan; refuse every other protocol."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http":
            send, preflight = self._cors_policy.wrap(scope, send), self._cors_policy.preflight(scope)
            client = tuple(scope.get("client") or ("", 0))
            self._busy_clients.add(client)
            try:
                await self._serve_request(scope, receive, send, preflight)
            finally:
                self._busy_clients.discard(client)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before the handshake: the client gets 403
        else:
            log.warning("a request of the protocol %r was refused", scope["type"])

    async def _serve_request(self, scope: Message, receive: Receive, send: Send, preflight: Response | None) -> None:
        if preflight is not None:
            await self._stream_response(scope, preflight, receive, send)
            return
        scope, response, deferred = await self._respond(scope, receive)
        if deferred is None or self._job_watcher is None:
            await self._stream_response(scope, response, receive, send)
        else:
            await self._send_deferred(scope, response, deferred, self._job_watcher, receive, send)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.close)
        await asyncio.to_thread(tracer.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, scope: Message, receive: Receive) -> tuple[Message, Response, Deferred | None]:
        """Read the body and run the view; return the scope without its proxies, the response, what it deferred."""
        received_at = time.monotonic()
        body: RequestBody | None = None
        try:
            scope = self._proxy_headers.apply(scope)
            head = RequestHead(scope)
            body = await self._read_body(scope, head, receive)
            environ = build_environ(scope, body.buffer, body.length)
            environ |= {request_tracing.RECEIVED_AT_KEY: received_at, **self._deferral}
            is_cached = self._is_cached(head.bearer_key)
            response = await self._views.run(environ, head.path, self._sender(head), is_cached=is_cached)
            if not body.is_complete:
                response = dataclasses.replace(response, headers=[*response.headers, (b"connection", b"close")])
            return scope, response, environ.get(deferred_http.DEFERRED_KEY)
        except TimeoutError:
            response = problem_response(scope, 408, "request_timeout", "The request did not arrive in time.")
        except body_budget.BudgetExceeded:
            await request_body.drain(receive)
            detail = "The server has no memory left for request bodies. Retry in 2 seconds."
            response = problem_response(scope, 503, "too_busy", detail)
        except ClientDisconnected:
            response = problem_response(
                scope, 400, "cut_off", "The connection was closed before the body was complete."
            )
        except (proxy.MalformedHeader, content_encoding.MalformedEncoding) as error:
            response = problem_response(scope, 400, "bad_request", str(error))
        except content_encoding.UnsupportedEncoding as error:
            response = problem_response(scope, 415, "unsupported_media_type", str(error))
        finally:
            if body is not None:
                body.release()
        if self._metrics is not None:
            duration = time.monotonic() - received_at
            self._metrics.observe(scope["method"], request_metrics.NO_ROUTE, response.status, duration)
        return scope, response, None

    async def _read_body(self, scope: Message, head: RequestHead, receive: Receive) -> RequestBody:
        """Read the body of a request; the caller releases it."""
        max_bytes = self._max_body_bytes_by_path.get(head.path, self._max_body_bytes)
        max_bytes = min(max_bytes, self._max_json_bytes) if head.is_json else max_bytes
        is_encoded = content_encoding.is_encoded(scope)
        body = RequestBody(await self._reserve_memory(head, max_bytes, is_encoded=is_encoded), max_bytes)
        try:
            await body.read(receive, head.content_length, expects_continue=head.expects_continue)
            if body.is_buffered and is_encoded:
                await content_encoding.decode(body, scope)
        except BaseException:
            body.release()
            raise
        return body

    async def _reserve_memory(
        self, head: RequestHead, max_bytes: int, *, is_encoded: bool
    ) -> body_budget.Reservation | None:
        """Return a reservation for the body of a request; None if it has no valid key, since it will be rejected.

        Small bodies with any key share a small part of the budget; when that is used up, their keys are checked too.
        """
        if not head.headers.get(b"authorization"):
            return None
        is_small = head.has_length and head.content_length <= SMALL_BODY_BYTES and not is_encoded
        if head.is_bodiless or is_small:
            with contextlib.suppress(body_budget.BudgetExceeded):
                return self._body_budget.reserve_small(head.content_length)
        key = head.bearer_key
        run_in_executor = asyncio.get_running_loop().run_in_executor
        is_authorized = self._is_cached(key) or await run_in_executor(
            self._auth_threads, self._is_authorized, head.address, key
        )
        return self._body_budget.open_reservation(key, max_bytes) if is_authorized else None

    def _sender(self, head: RequestHead) -> str:
        """Return who takes turns for the threads: a key that has been valid, else the address of the client."""
        return head.bearer_key if self._is_known(head.bearer_key) else head.address

    async def _send_deferred(
        self,
        scope: Message,
        response: Response,
        deferred: Deferred,
        watcher: job_watcher_services.JobWatcher,
        receive: Receive,
        send: Send,
    ) -> None:
        """Send a deferred response, unless the client disconnects first."""
        if isinstance(deferred, long_poll.LongPoll):
            sending = asyncio.ensure_future(deferred_responses.send_long_poll(scope, response, deferred, watcher, send))
        else:
            sending = asyncio.ensure_future(deferred_responses.send_events(response, deferred, watcher, send))
        disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait([sending, disconnected], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel() if disconnected.done() else disconnected.cancel()
        if not disconnected.done():
            await sending

    async def _stream_response(self, scope: Message, response: Response, receive: Receive, send: Send) -> None:
        """Send a response; each chunk is made when the one before was sent, and none after a disconnect."""
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        if response.is_buffered:
            await send({"type": "http.response.body", "body": b"".join(response.chunks)})
            return
        disconnected = asyncio.ensure_future(receive())
        sender = self._sender(RequestHead(scope))
        try:
            while (
                not disconnected.done()
                and (chunk := await self._views.threads.run(sender, next, response.chunks, None)) is not None
            ):
                if not chunk:  # a server might write it as the end of the body
                    continue
                async with asyncio.timeout(deferred_responses.WRITE_TIMEOUT_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except errors.ServiceUnavailable as error:
            # The status was sent already. Without its end the response is visibly incomplete.
            log.error("a response was cut off: %s", error.detail)
        except TimeoutError:
            log.warning("a response was cut off: its client did not read it in time")
        finally:
            disconnected.cancel()
            await self._views.threads.run(sender, response.close)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
