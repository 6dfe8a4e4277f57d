"""The front: takes a request in whole, gives it to Flask in a thread, and hands on the answer as fast as it is read.

A WSGI server hands the reading of the body to the thread that runs the view, so a handful of slow senders would keep
everybody else out; and so would slow readers of long answers. Here only a coroutine waits for them. Any ASGI server
can run it.
"""

import asyncio
import contextlib
import dataclasses
import functools
import io
import json
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from api import auth, later, memory, meter, models, room, traces, watch
from api import errors as problems
from api.app import create_app
from jobs import errors, parents, purge, settings, tracing

IDLE_SECONDS = 20.0  # a sender that is silent for so long is given up
MOST_SECONDS = 600.0  # and one that takes so long for one request
PACE_SECONDS = 30.0  # in each such span of time a sender sends
LEAST_BYTES_PER_SECOND = 10_000  # at least, on average: a poor mobile line does
SMALL_BYTES = 65_536  # bodies up to this size are kept without asking whose they are
MOST_DISCARDED_BYTES = 256_000_000  # read on from a body over the limit, so that its sender sees the answer
MOST_DISCARDED_OF_STRANGERS = 8_000_000  # the same from who has no good key
MOST_DRAINED_BYTES = 64_000_000  # and from who is refused for want of room

BODILESS = {"GET", "HEAD", "DELETE", "OPTIONS"}
# What a better answer says anew.
REPLACED = {b"content-length", b"content-type", b"etag", b"retry-after"}
log = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gone(Exception):
    """The caller has hung up."""


@dataclass(frozen=True)
class Answer:
    """An answer: its head, and its body in pieces; one whose length is known has one piece."""

    status: int
    headers: list[tuple[bytes, bytes]]
    pieces: Iterator[bytes]
    whole: bool
    close: Callable[[], None] = lambda: None


class Front:
    """The ASGI application around the Flask one."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        *,
        threads: int,
        most_bytes: int,
        most_bytes_at: Mapping[str, int] | None = None,
        watched: watch.Watch | None = None,
        trusts: Callable[[str, str], bool] = lambda _address, _key: True,
        knows: Callable[[str, str], bool] = lambda _address, _key: False,
        counts: meter.Meter | None = None,
    ) -> None:
        """Serve `app`.

        `most_bytes_at` names paths that take larger bodies than the rest. `trusts` is asked, with an address and a key,
        before a large body is kept; `knows` before it, which never waits. `counts` is told of what is refused here.
        """
        self._app = app
        self._meter = counts
        self._trusts = trusts
        self._knows = knows
        # Of its own, because views may have taken all the others, and nobody's body waits for them.
        self._doorkeepers = futures.ThreadPoolExecutor(2, thread_name_prefix="door")
        self._watch = watched
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix="view")
        self._most_bytes = most_bytes
        self._most_bytes_at = most_bytes_at or {}
        self._room = room.Room()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            if self._meter is not None:
                await asyncio.to_thread(self._meter.close)
            await asyncio.to_thread(tracing.close)
            await send({"type": "lifespan.shutdown.complete"})
            return
        most = self._most_bytes_at.get(scope["path"], self._most_bytes)
        pieces: list[bytes] = []
        place, left, environ = None, None, None
        began = time.monotonic()
        try:
            async with asyncio.timeout(MOST_SECONDS) as patience:
                place = await self._place(scope, most)
                length, whole = await self._gather(scope, pieces, receive, place, most, patience)
            environ = _environ(scope, b"".join(pieces), length) | {traces.BEGAN: began}
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, environ)
            if not whole:
                answer = dataclasses.replace(answer, headers=[*answer.headers, (b"connection", b"close")])
            left = environ.get(later.KEY)
        except TimeoutError:
            answer = _refusal(scope, 408, "request_timeout", "The request did not come in time.")
        except room.Full:
            _let_go(pieces, place)
            await _drain(receive)
            answer = _refusal(scope, 503, "too_busy", "Too much is being sent at once; try again in 2 seconds.")
        except Gone:
            answer = _refusal(scope, 400, "cut_off", "The request was cut off: its body has not come whole.")
        finally:
            _let_go(pieces, place)
        if environ is None and self._meter is not None:
            self._meter.note(scope["method"], meter.NO_ROUTE, answer.status, time.monotonic() - began)
        if left is None or self._watch is None:
            await self._hand_on(answer, receive, send)
            return
        going = asyncio.ensure_future(self._go_on(answer, left, self._watch, send))
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait([going, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            going.cancel() if gone.done() else gone.cancel()
        if not gone.done():
            await going

    async def _place(self, scope: Message, most_bytes: int) -> room.Place | None:
        """Where the body of this request is kept; None for who has no good key: they will be told so.

        What is small is kept for anybody who shows a key, while there is room for such; then they are asked for it too.
        """
        headers = dict(scope["headers"])
        shown = headers.get(b"authorization", b"").decode("latin-1")
        if not shown:
            return None
        told = b"content-length" in headers
        bodiless = scope["method"] in BODILESS and not told and b"transfer-encoding" not in headers
        length = _told_length(scope)
        if bodiless or (told and length <= SMALL_BYTES):
            with contextlib.suppress(room.Full):
                return self._room.small(length)
        address, key = (scope.get("client") or ("", 0))[0], shown.partition(" ")[2].strip()
        run = asyncio.get_running_loop().run_in_executor
        trusted = self._knows(address, key) or await run(self._doorkeepers, self._trusts, address, key)
        return self._room.of(key, most_bytes) if trusted else None

    async def _go_on(self, answer: Answer, left: later.Wait | later.Events, watched: watch.Watch, send: Send) -> None:
        """Do what the view has left to be done: only a coroutine waits, and none for who has hung up."""
        if isinstance(left, later.Wait):
            better = await left.answer(watched)
            if better is not None:
                status, headers, body = better
                kept = [(name, value) for name, value in answer.headers if name not in REPLACED]
                headers["content-length"] = str(len(body))
                told = [(name.encode(), value.encode()) for name, value in headers.items()]
                answer = Answer(status, [*kept, *told], iter([body]), whole=True)
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": b"".join(answer.pieces)})
            return
        headers_ = [(name, value) for name, value in answer.headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers_})
        watched.streams[left.key_id] += 1
        try:
            async for event in left.events(watched):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            watched.streams[left.key_id] -= 1
            watched.streams += Counter()  # without the keys that have none

    async def _hand_on(self, answer: Answer, receive: Receive, send: Send) -> None:
        """Send an answer; the next piece is made when the one before is on its way, and none for who has hung up."""
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        if answer.whole:
            await send({"type": "http.response.body", "body": b"".join(answer.pieces)})
            return
        gone = asyncio.ensure_future(receive())
        run = asyncio.get_running_loop().run_in_executor
        try:
            while not gone.done() and (piece := await run(self._threads, next, answer.pieces, None)) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except errors.Unavailable as error:
            # The head said 200 already. An answer without its end is cut off: the caller sees that it is not whole.
            log.error("an answer was cut off: %s", error.detail)
        finally:
            gone.cancel()
            await run(self._threads, answer.close)

    async def _gather(
        self,
        scope: Message,
        pieces: list[bytes],
        receive: Receive,
        place: room.Place | None,
        most_bytes: int,
        patience: asyncio.Timeout,
    ) -> tuple[int, bool]:
        """Read the body; what is not to be kept is counted and thrown away. Returns its length, and if it came whole.

        Who waits for leave to send a body that is refused anyway is not given it: to receive would be to give it.
        """
        told = _told_length(scope)
        if _asks_for_leave(scope) and (place is None or told > most_bytes):
            return told, False
        most_discarded = MOST_DISCARDED_OF_STRANGERS if place is None else MOST_DISCARDED_BYTES
        now = asyncio.get_running_loop().time
        length, before, since = 0, 0, now()
        last = since + MOST_SECONDS
        while True:
            patience.reschedule(min(now() + IDLE_SECONDS, last))
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            data = message.get("body", b"")
            length += len(data)
            if place is None or length > most_bytes:
                _let_go(pieces, place)
            else:
                place.hold(length)
                pieces.append(data)
            if not message.get("more_body"):
                return length, True
            if length > most_discarded:
                return length, False
            seconds = now() - since
            if seconds > PACE_SECONDS:
                if length - before < seconds * LEAST_BYTES_PER_SECOND:
                    raise TimeoutError
                before, since = length, since + seconds

    def _answer(self, environ: dict[str, Any]) -> Answer:
        """Run the view."""
        start: list[Any] = []
        with environ["wsgi.input"]:  # closed, it lets the body go; the request, a cycle, stays until it is collected
            data = self._app(environ, lambda status, headers, _=None: start.extend((status, headers)))
        close = getattr(data, "close", lambda: None)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in start[1]]
        status = int(start[0].split(" ", 1)[0])
        if not any(name == b"content-length" for name, _ in headers):
            return Answer(status, headers, iter(data), whole=False, close=close)
        try:
            return Answer(status, headers, iter([b"".join(data)]), whole=True)
        finally:
            close()


def _let_go(pieces: list[bytes], place: room.Place | None) -> None:
    pieces.clear()
    if place is not None:
        place.leave()


def _told_length(scope: Message) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"")
    return int(length) if length.isdigit() else 0


def _asks_for_leave(scope: Message) -> bool:
    return bool(dict(scope["headers"]).get(b"expect", b"").lower() == b"100-continue")


async def _drain(receive: Receive) -> None:
    """Read on for a while, so that a refused sender sees the answer and no broken line."""
    length = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            while length <= MOST_DRAINED_BYTES:
                message = await receive()
                length += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def create() -> Front:
    """The application for the settings of the environment; the server's child ends with the server."""
    if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
        parents.die_with(parent.pid)
    wanted = settings.read_or_exit()
    tracing.start_or_exit("sortbelt-api", on=wanted.tracing)
    app = create_app(wanted)
    parts = app.extensions["sortbelt"]
    parts.blobs.sweep()
    parts.meter.start()
    if wanted.retention_days:
        purge.keep_up(parts.db, parts.blobs, days=wanted.retention_days)
    memory.settle()
    return Front(
        app,
        threads=wanted.api_threads,
        most_bytes=wanted.max_body_bytes,
        most_bytes_at={models.PATH: wanted.max_bundle_bytes},
        watched=parts.watch,
        trusts=functools.partial(auth.is_trusted, parts),
        knows=functools.partial(auth.is_known, parts),
        counts=parts.meter,
    )


async def _live(receive: Receive, send: Send) -> None:
    """Begin, and wait for the order to end."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()


def _environ(scope: Message, body: bytes, length: int) -> dict[str, Any]:
    """The request as PEP 3333 has it."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # it is whole by now
    environ["CONTENT_LENGTH"] = str(length)
    return environ


def _refusal(scope: Message, status: int, code: str, sentence: str) -> Answer:
    """An answer of the front's own, in the shape of all others."""
    id_ = problems.request_id(dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1"))
    headers = {
        "content-type": "application/problem+json",
        "x-content-type-options": "nosniff",
        "x-request-id": id_,
        "retry-after": "2",
        "connection": "close",
    }
    body = json.dumps(problems.shape(status, code, sentence, id_)).encode()
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Answer(status, told, iter([body]), whole=True)
