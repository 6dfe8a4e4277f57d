"""The front: takes a request in whole, then gives it to Flask in a thread.

A WSGI server hands the reading of the body to the thread that runs the view, so a handful of slow senders would keep
everybody else out. Here only a coroutine waits for them. Any ASGI server can run it.
"""

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent import futures
from typing import Any

from api.app import create_app
from jobs import settings

IDLE_SECONDS = 20.0  # a sender that is silent for so long is given up
MOST_SECONDS = 600.0  # and one that takes so long for one request
MOST_HELD_BYTES = 512_000_000  # of all bodies that are coming in at once
MOST_DISCARDED_BYTES = 256_000_000  # read on from a body over the limit, so that its sender sees the answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gone(Exception):
    """The caller has hung up."""


class Front:
    """The ASGI application around the Flask one."""

    def __init__(self, app: Callable[..., Iterable[bytes]], *, threads: int, most_bytes: int) -> None:
        self._app = app
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix="view")
        self._most_bytes = most_bytes
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        # Who shows no key will be told so; what they send is not kept.
        shows_key = any(name == b"authorization" for name, _ in scope["headers"])
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(MOST_SECONDS):
                length = await self._gather(pieces, receive, self._most_bytes if shows_key else 0)
            environ = _environ(scope, b"".join(pieces), length)
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, environ)
        except TimeoutError:
            answer = _refusal(408, "The request did not come in time.")
        except MemoryError:
            answer = _refusal(503, "Too much is being sent at once; try again in 2 seconds.")
        except Gone:
            answer = _refusal(400, "The request was cut off: its body has not come whole.")
        finally:
            self._held -= sum(map(len, pieces))
        status, headers, data = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _gather(self, pieces: list[bytes], receive: Receive, most_bytes: int) -> int:
        """Read the body; what is beyond the limit is counted and thrown away. Returns its length."""
        length = 0
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            data = message.get("body", b"")
            length += len(data)
            if length <= most_bytes:
                pieces.append(data)
                self._held += len(data)
            if self._held > MOST_HELD_BYTES:
                raise MemoryError
            if not message.get("more_body") or length > MOST_DISCARDED_BYTES:
                return length

    def _answer(self, environ: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Run the view."""
        start: list[Any] = []
        data = self._app(environ, lambda status, headers, _=None: start.extend((status, headers)))
        try:
            body = b"".join(data)
        finally:
            getattr(data, "close", lambda: None)()
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in start[1]]
        return int(start[0].split(" ", 1)[0]), headers, body


def create() -> Front:
    """The application for the settings of the environment."""
    wanted = settings.read_or_exit()
    app = create_app(wanted)
    app.extensions["sortbelt"].blobs.sweep()
    return Front(app, threads=wanted.api_threads, most_bytes=wanted.max_body_bytes)


async def _live(receive: Receive, send: Send) -> None:
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


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


def _refusal(status: int, sentence: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    return (
        status,
        [(b"content-type", b"text/plain"), (b"retry-after", b"2"), (b"connection", b"close")],
        sentence.encode(),
    )
