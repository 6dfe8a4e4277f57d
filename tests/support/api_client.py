"""HTTP clients for the API's tests: on Flask's test client, and on a raw socket."""

import contextlib
import http.client
import io
import json
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class ApiClient:
    """Flask's test client with an API key; `images` are (name, bytes) pairs of a multipart form."""

    client: Any
    key: str | None
    id: str | None = None

    def request(self, method, path, images=None, headers=None, **options):
        """Send a request with the key."""
        headers = dict(headers or {})
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if images is not None:
            options["data"] = {**options.get("data", {}), "images": [(io.BytesIO(b), name) for name, b in images]}
        return self.client.open(path, method=method, headers=headers, **options)

    def get(self, path, **options):
        """Send a GET request."""
        return self.request("GET", path, **options)

    def post(self, path, **options):
        """Send a POST request."""
        return self.request("POST", path, **options)


def assert_problem(response, status, code):
    """Assert that a response is a problem with this status and code; return its detail."""
    assert (response.status_code, response.json.get("code")) == (status, code), response.text
    assert response.mimetype == "application/problem+json"
    body = response.json
    assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail", "request_id"}
    assert body["status"] == status
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(body["detail"], str)
    assert body["detail"].endswith((".", "…"))
    return body["detail"]


def next_page_url(response):
    """Return the URL of a response's `Link: rel="next"`, or None."""
    link = response.headers.get("Link")
    return link and re.fullmatch(r'<([^>]*)>; rel="next"', link)[1]


def fetch_all_pages(api_client, path, list_name):
    """Fetch all rows of a list, page by page."""
    rows = []
    while path:
        response = api_client.get(path)
        assert response.status_code == 200, response.text
        rows += response.json[list_name]
        path = next_page_url(response)
    return rows


@dataclass
class ApiServer:
    """A running `python -m api`."""

    port: int
    key: str
    process: subprocess.Popen[bytes]
    log: Path

    def request(self, method, path, body=None, *, key=None, **headers):
        """Send a request; return (status, headers, JSON). Underscores in header names become hyphens."""
        fields = {"Authorization": f"Bearer {key or self.key}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            data = response.read()
        return response.status, response.headers, json.loads(data) if data else None

    def send_raw(self, *chunks, seconds=60.0, half_close=False):
        """Send raw bytes; return (status, body) of the response, or None if the server closes without one."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as sock:
            for chunk in chunks:
                sock.sendall(chunk)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return read_response(sock)

    def request_head(self, method="POST", path="/v1/jobs", **headers):
        """Return a request head with the key; underscores in header names become hyphens."""
        fields = {"Host": "test", "Authorization": f"Bearer {self.key}", "Connection": "close"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")


def read_response(sock):
    """Read one response from a socket: (status, JSON or bytes), or None if the server closes without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = sock.recv(65536)
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length is None or len(body) < int(length[1]):
        chunk = sock.recv(65536)
        if not chunk:
            break
        body += chunk
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body
