"""Load generator: connections that each send one image after another, the next as soon as a response arrives.

One thread, plain sockets, requests prepared beforehand; every body gets a unique comment, so that no two are equal.
Its own CPU per request is reported with the figures: where that is far below a core, it was not the bottleneck.
"""

import base64
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

from benchmarks import sample_images

READ_BYTES = 65_536
BUFFER_BYTES = 1_000_000
STALL_TIMEOUT_SECONDS = 60.0
BOUNDARY = "f2d1c97a60b84e35"


@dataclass
class LoadResult:
    """Responses of one run."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the load generator itself."""
    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    """From the first byte sent to the last byte received, of each response before the deadline."""
    bodies: dict[int, bytes] = field(default_factory=dict)
    """The last response for each image, by its number."""

    @property
    def rate(self) -> float:
        """Responses per second."""
        return self.statuses.total() / self.seconds

    def percentile(self, percentage: float) -> float:
        """Return the latency percentile in milliseconds."""
        return float(np.percentile(self.milliseconds, percentage))

    @property
    def labels(self) -> dict[int, str]:
        """The label of each image, by its number."""
        label_by_number = {number: find_label(_parse_json(body)) for number, body in self.bodies.items()}
        return {number: label for number, label in label_by_number.items() if label is not None}


def run(
    url: str,
    bodies: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    form_field: str | None = None,
    is_json: bool = False,
) -> LoadResult:
    """Send JPEGs in turn to a URL; requests in flight at the end are finished, but not counted.

    Args:
        url: target of the POST requests.
        bodies: JPEG files.
        connections: number of concurrent connections.
        seconds: duration.
        headers: in addition to those that HTTP needs.
        form_field: field of a multipart form that takes the image; None sends it as the raw body.
        is_json: whether to send it in base64 in JSON instead.
    """
    requests = (_JsonRequestFactory if is_json else _RequestFactory)(url, bodies, headers or {}, form_field)
    result = LoadResult()
    with selectors.DefaultSelector() as selector:
        clients = [_Connection(requests, result, selector) for _ in range(connections)]
        started, cpu_started = time.perf_counter(), time.process_time()
        deadline = started + seconds
        for client in clients:
            client.send()
        while any(client.busy for client in clients):
            for key, event_mask in selector.select(STALL_TIMEOUT_SECONDS) or _raise_stalled(url):
                key.data.on_ready(event_mask, deadline)
        result.seconds, result.cpu_seconds = seconds, time.process_time() - cpu_started
        for client in clients:
            client.close()
    return result


def find_label(payload: Any) -> str | None:
    """Return the first label in a JSON value, at any depth; None without one."""
    if isinstance(payload, dict):
        if isinstance(payload.get("label"), str):
            return str(payload["label"])
        payload = list(payload.values())
    if isinstance(payload, list):
        return next(filter(None, map(find_label, payload)), None)
    return None


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _raise_stalled(url: str) -> Any:
    raise TimeoutError(f"{url} has sent nothing for {STALL_TIMEOUT_SECONDS:g} s.")


class _RequestFactory:
    """Prepared requests, each with unique bytes."""

    def __init__(self, url: str, bodies: Sequence[bytes], headers: Mapping[str, str], form_field: str | None) -> None:
        target = parse.urlsplit(url)
        self.address = (target.hostname or "", target.port or 80)
        path = target.path + ("?" + target.query if target.query else "")
        body_prefix, self._body_suffix = _multipart_frame(form_field)
        content_type = f"multipart/form-data; boundary={BOUNDARY}" if form_field else "image/jpeg"
        all_headers = {"Host": target.netloc, "Content-Type": content_type, **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
        overhead_bytes = sample_images.COMMENT_SEGMENT.size + len(body_prefix) + len(self._body_suffix)
        heads = [
            f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body) + overhead_bytes}\r\n\r\n" for body in bodies
        ]
        self._heads = [head.encode() + body_prefix for head in heads]
        self._bodies = bodies
        self._run_id, self._count = secrets.token_bytes(8), itertools.count()

    def next(self) -> tuple[int, list[memoryview]]:
        """Return the number of the next image, and the pieces of its request."""
        count = next(self._count)
        number = count % len(self._bodies)
        start, rest = sample_images.stamp_jpeg(self._bodies[number], self._run_id + struct.pack(">Q", count))
        pieces = [memoryview(self._heads[number] + start), rest]
        return number, [*pieces, memoryview(self._body_suffix)] if self._body_suffix else pieces


class _JsonRequestFactory(_RequestFactory):
    """Requests with the image in base64 in JSON."""

    def next(self) -> tuple[int, list[memoryview]]:
        """Return the number of the next image, and the pieces of its request."""
        number, pieces = super().next()
        raw_head, _, start = bytes(pieces[0]).partition(b"\r\n\r\n")
        encoded = base64.b64encode(b"".join([start, *pieces[1:]]))
        body = b'{"images":[{"name":"a.jpg","data":"' + encoded + b'"}]}'
        head = raw_head.replace(b"image/jpeg", b"application/json").rpartition(b"Content-Length: ")[0]
        return number, [memoryview(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)]


def _multipart_frame(form_field: str | None) -> tuple[bytes, bytes]:
    """Return the bytes before and after an image in a multipart form."""
    if form_field is None:
        return b"", b""
    part_headers = f'Content-Disposition: form-data; name="{form_field}"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    return f"--{BOUNDARY}\r\n{part_headers}\r\n\r\n".encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


class _Connection:
    """One connection, with at most one request in flight."""

    def __init__(self, requests: _RequestFactory, result: LoadResult, selector: selectors.BaseSelector) -> None:
        self._requests = requests
        self._result = result
        self._selector = selector
        self._socket: socket.socket | None = None
        self.busy = False
        self._unsent: list[memoryview] = []
        self._response = bytearray()
        self._number = 0
        self._started = 0.0

    def send(self) -> None:
        """Start the next request, connecting first if necessary."""
        self.busy = True
        self._number, self._unsent = self._requests.next()
        self._response.clear()
        self._started = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(self._requests.address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._socket.setblocking(False)  # noqa: FBT003 (a positional-only parameter)
            self._selector.register(self._socket, selectors.EVENT_READ, self)
        self._send_pending()

    def on_ready(self, event_mask: int, deadline: float) -> None:
        """Send and receive what is possible; after a complete response, record it and send the next request."""
        if event_mask & selectors.EVENT_WRITE:
            self._send_pending()
        if event_mask & selectors.EVENT_READ and self._receive():
            self._record_response(deadline)
            if time.perf_counter() < deadline:
                self.send()
            else:
                self.busy = False

    def _send_pending(self) -> None:
        assert self._socket is not None  # noqa: S101 (for the type checker)
        try:
            sent = self._socket.sendmsg(self._unsent)
        except BlockingIOError:
            sent = 0
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.pop(0))
        if self._unsent:
            self._unsent[0] = self._unsent[0][sent:]
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._socket).events != interest:
            self._selector.modify(self._socket, interest, self)

    def _receive(self) -> bool:
        """Receive; return whether the response is complete."""
        assert self._socket is not None  # noqa: S101 (for the type checker)
        data = self._socket.recv(READ_BYTES)
        self._response += data
        if not data:
            self.close()
            return True
        head = self._response.find(b"\r\n\r\n")
        if head < 0:
            return False
        lines = bytes(self._response[:head]).lower()
        length = _header_value(lines, b"content-length")
        if length is None:
            return _header_value(lines, b"transfer-encoding") == b"chunked" and self._response.endswith(
                b"\r\n0\r\n\r\n"
            )
        is_complete = len(self._response) >= head + 4 + int(length)
        if is_complete and _header_value(lines, b"connection") == b"close":
            self.close()
        return is_complete

    def _record_response(self, deadline: float) -> None:
        """Record the response; after the deadline only its label counts."""
        head = self._response.find(b"\r\n\r\n")
        now = time.perf_counter()
        status = int(self._response[9:12] or 0)
        if now <= deadline or not 200 <= status < 300:
            self._result.statuses[status] += 1
            self._result.milliseconds.append((now - self._started) * 1000)
        if 200 <= status < 300:
            chunked = _header_value(bytes(self._response[:head]).lower(), b"transfer-encoding") == b"chunked"
            body = bytes(self._response[head + 4 :])
            self._result.bodies[self._number] = _join_chunks(body) if chunked else body

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


def _join_chunks(chunks: bytes) -> bytes:
    """Join the chunks of a chunked body."""
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    return body


def _header_value(lines: bytes, name: bytes) -> bytes | None:
    """Return a header's value from the lower-case head of a response."""
    for line in lines.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key == name:
            return value.strip()
    return None
