"""The load: connections that each send one picture after another, the next as soon as the last is answered.

One thread, plain sockets, requests prepared beforehand; every body is stamped, so that no two are the same bytes.
What CPU it takes for each request is told with the figures: where that is far below a core, it was not the bottleneck.
"""

import itertools
import json
import secrets
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib import parse

import numpy as np

from bench import pictures

READ_BYTES = 65_536
BUFFER_BYTES = 1_000_000
STUCK_SECONDS = 60.0
BOUNDARY = "f2d1c97a60b84e35"


@dataclass
class Load:
    """What came of one run."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the load itself."""
    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    """From the first byte sent to the last byte received, for each answer that came in time."""
    bodies: dict[int, bytes] = field(default_factory=dict)
    """The last answer for each picture, by its number."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.statuses.total() / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds within which this percentage was answered."""
        return float(np.percentile(self.milliseconds, share))

    @property
    def labels(self) -> dict[int, str]:
        """The label that each picture got, by its number."""
        found = {number: label_in(_parsed(body)) for number, body in self.bodies.items()}
        return {number: label for number, label in found.items() if label is not None}


def run(
    url: str,
    bodies: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    form: str | None = None,
) -> Load:
    """Send these JPEGs in turn to a URL for so long; what is under way at the end is waited for, and not counted.

    Args:
        url: where to.
        bodies: JPEG files.
        connections: how many at once.
        seconds: for how long.
        headers: besides those that HTTP needs.
        form: the field of a multipart form that takes the picture; None sends it as the body.
    """
    requests = _Requests(url, bodies, headers or {}, form)
    load = Load()
    with selectors.DefaultSelector() as events:
        callers = [_Caller(requests, load, events) for _ in range(connections)]
        started, cpu = time.perf_counter(), time.process_time()
        until = started + seconds
        for caller in callers:
            caller.send()
        while any(caller.busy for caller in callers):
            for key, what in events.select(STUCK_SECONDS) or _stuck(url):
                key.data.go_on(what, until)
        load.seconds, load.cpu_seconds = seconds, time.process_time() - cpu
        for caller in callers:
            caller.close()
    return load


def label_in(answer: Any) -> str | None:
    """The first label in an answer, however deep."""
    if isinstance(answer, dict):
        if isinstance(answer.get("label"), str):
            return str(answer["label"])
        answer = list(answer.values())
    if isinstance(answer, list):
        return next(filter(None, map(label_in, answer)), None)
    return None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _stuck(url: str) -> Any:
    raise TimeoutError(f"{url} has not answered for {STUCK_SECONDS:g} s.")


class _Requests:
    """Requests that are ready to be sent, each with bytes of its own."""

    def __init__(self, url: str, bodies: Sequence[bytes], headers: Mapping[str, str], form: str | None) -> None:
        where = parse.urlsplit(url)
        self.address = (where.hostname or "", where.port or 80)
        path = where.path + ("?" + where.query if where.query else "")
        before, self._after = _around(form)
        kind = f"multipart/form-data; boundary={BOUNDARY}" if form else "image/jpeg"
        told = {"Host": where.netloc, "Content-Type": kind, **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        more = pictures.STAMP.size + len(before) + len(self._after)
        heads = [f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body) + more}\r\n\r\n" for body in bodies]
        self._heads = [head.encode() + before for head in heads]
        self._bodies = bodies
        self._run, self._count = secrets.token_bytes(8), itertools.count()

    def next(self) -> tuple[int, list[memoryview]]:
        """The number of a picture, and the pieces of its request."""
        count = next(self._count)
        number = count % len(self._bodies)
        start, rest = pictures.stamped(self._bodies[number], self._run + struct.pack(">Q", count))
        pieces = [memoryview(self._heads[number] + start), rest]
        return number, [*pieces, memoryview(self._after)] if self._after else pieces


def _around(form: str | None) -> tuple[bytes, bytes]:
    """What comes before and after a picture in a form."""
    if form is None:
        return b"", b""
    told = f'Content-Disposition: form-data; name="{form}"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    return f"--{BOUNDARY}\r\n{told}\r\n\r\n".encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


class _Caller:
    """One connection."""

    def __init__(self, requests: _Requests, load: Load, events: selectors.BaseSelector) -> None:
        self._requests = requests
        self._load = load
        self._events = events
        self._socket: socket.socket | None = None
        self.busy = False
        self._unsent: list[memoryview] = []
        self._answer = bytearray()
        self._number = 0
        self._started = 0.0

    def send(self) -> None:
        """Begin the next request."""
        self.busy = True
        self._number, self._unsent = self._requests.next()
        self._answer.clear()
        self._started = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(self._requests.address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._socket.setblocking(False)  # noqa: FBT003 (it has no name for it)
            self._events.register(self._socket, selectors.EVENT_READ, self)
        self._push()

    def go_on(self, what: int, until: float) -> None:
        """Send or receive what can be; when the answer is whole, note it and begin anew if there is time."""
        if what & selectors.EVENT_WRITE:
            self._push()
        if what & selectors.EVENT_READ and self._pull():
            self._note(until)
            if time.perf_counter() < until:
                self.send()
            else:
                self.busy = False

    def _push(self) -> None:
        assert self._socket is not None  # noqa: S101 (for the type checker)
        try:
            sent = self._socket.sendmsg(self._unsent)
        except BlockingIOError:
            sent = 0
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.pop(0))
        if self._unsent:
            self._unsent[0] = self._unsent[0][sent:]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._events.get_key(self._socket).events != wanted:
            self._events.modify(self._socket, wanted, self)

    def _pull(self) -> bool:
        """Receive; whether the answer is whole."""
        assert self._socket is not None  # noqa: S101 (for the type checker)
        data = self._socket.recv(READ_BYTES)
        self._answer += data
        if not data:
            self.close()
            return True
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return False
        lines = bytes(self._answer[:head]).lower()
        length = _header(lines, b"content-length")
        if length is None:
            return _header(lines, b"transfer-encoding") == b"chunked" and self._answer.endswith(b"\r\n0\r\n\r\n")
        whole = len(self._answer) >= head + 4 + int(length)
        if whole and _header(lines, b"connection") == b"close":
            self.close()
        return whole

    def _note(self, until: float) -> None:
        """Count the answer; one that came after the end is not of this run, but its label counts."""
        head = self._answer.find(b"\r\n\r\n")
        now = time.perf_counter()
        status = int(self._answer[9:12] or 0)
        if now <= until or not 200 <= status < 300:
            self._load.statuses[status] += 1
            self._load.milliseconds.append((now - self._started) * 1000)
        if 200 <= status < 300:
            chunked = _header(bytes(self._answer[:head]).lower(), b"transfer-encoding") == b"chunked"
            body = bytes(self._answer[head + 4 :])
            self._load.bodies[self._number] = _joined(body) if chunked else body

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._events.unregister(self._socket)
            self._socket.close()
            self._socket = None


def _joined(chunks: bytes) -> bytes:
    """The body that came in chunks."""
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    return body


def _header(lines: bytes, name: bytes) -> bytes | None:
    """A header's value, from the lower-case lines of an answer's head."""
    for line in lines.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key == name:
            return value.strip()
    return None
