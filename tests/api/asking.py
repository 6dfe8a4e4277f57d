"""People who ask, by Flask's test client or by a real socket."""

import io
import json
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Person:
    """A test client with a key; `images` are (name, bytes) pairs of a multipart form."""

    client: Any
    key: str | None
    id: str | None = None

    def ask(self, method, path, images=None, headers=None, **options):
        """Ask, with the key."""
        headers = dict(headers or {})
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if images is not None:
            options["data"] = {**options.get("data", {}), "images": [(io.BytesIO(b), name) for name, b in images]}
        return self.client.open(path, method=method, headers=headers, **options)

    def get(self, path, **options):
        """Ask to see something."""
        return self.ask("GET", path, **options)

    def post(self, path, **options):
        """Ask to take something in."""
        return self.ask("POST", path, **options)


def problem(response, status, code):
    """Check that a response is that problem, in its one shape; its detail."""
    assert (response.status_code, response.json.get("code")) == (status, code), response.text
    assert response.mimetype == "application/problem+json"
    body = response.json
    assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail", "request_id"}
    assert body["status"] == status
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(body["detail"], str)
    assert body["detail"].endswith((".", "…"))
    return body["detail"]


def next_page(response):
    """Where the Link of a page leads, or None."""
    link = response.headers.get("Link")
    return link and re.fullmatch(r'<([^>]*)>; rel="next"', link)[1]


def walk(person, path, name):
    """All rows of a list, page by page."""
    rows = []
    while path:
        response = person.get(path)
        assert response.status_code == 200, response.text
        rows += response.json[name]
        path = next_page(response)
    return rows


@dataclass
class Server:
    """A real server."""

    port: int
    key: str
    process: subprocess.Popen[bytes]
    log: Path

    def exchange(self, *pieces, seconds=10.0, hang_up=False):
        """Send raw bytes, and read until the server hangs up or has answered; (status, body) or None for no answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            for piece in pieces:
                line.sendall(piece)
            if hang_up:
                line.shutdown(socket.SHUT_WR)
            return answer(line)

    def head(self, method="POST", path="/v1/jobs", **headers):
        """The head of a request with the key; underscores in names become hyphens."""
        fields = {"Host": "test", "Authorization": f"Bearer {self.key}", "Connection": "close"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")


def answer(line):
    """The status and the JSON of one answer on a socket; None where the server hung up without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = line.recv(65536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length is None or len(body) < int(length[1]):
        piece = line.recv(65536)
        if not piece:
            break
        body += piece
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body
