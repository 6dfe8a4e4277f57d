"""Port of the API: find a free one, and probe whether the server is ready."""

import contextlib
import http.client
import json
import random
import socket
import time
import urllib.parse

from sortbelt import errors

RETRY_SECONDS = 0.1
# Tried first for port 0. The kernel gives ports from 32768 (Linux) or 49152 on to outgoing connections: one of those
# may be taken in the seconds until the API listens, or restarts.
NON_EPHEMERAL_PORTS = range(10_000, 20_000)
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how to reach a server on all addresses


def base_url(host: str, port: int) -> str:
    """Return the URL by which this machine reaches a server that listens on a host and port."""
    host = WILDCARD_HOSTS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def find_free_port(host: str, port: int, timeout: float) -> int:
    """Return the port once it can be bound; for port 0 any free one.

    Raises:
        errors.BadInput: it cannot be bound within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _probe_port(host, port)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise errors.BadInput(
                    f"Cannot listen on {host} port {port} ({error.strerror}): choose another one with --port, "
                    "or --port 0 for any free port.",
                    "port_in_use",
                ) from None
        time.sleep(RETRY_SECONDS)


def _probe_port(host: str, port: int) -> int:
    if port:
        return _bind_probe(host, port)
    for candidate in random.sample(NON_EPHEMERAL_PORTS, 50):
        with contextlib.suppress(OSError):
            return _bind_probe(host, candidate)
    return _bind_probe(host, 0)


def _bind_probe(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def not_ready_reason(url: str, key: str) -> str:
    """Return why the server is not ready yet; empty if it is."""
    parsed_url = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parsed_url.hostname or "", parsed_url.port, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        checks = json.loads(response.read()).get("checks", {})
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        return f"the API does not respond ({error})"
    finally:
        connection.close()
    if response.status == http.HTTPStatus.OK:
        return ""
    failing = [f"{name}: {check.get('detail')}" for name, check in checks.items() if not check.get("ok")]
    return "; ".join(failing) or f"/readyz responds with {response.status}"
