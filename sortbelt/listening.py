"""The API's port: free before anything starts, answering when everything runs."""

import contextlib
import http.client
import json
import random
import socket
import time
import urllib.parse

from sortbelt import errors

RETRY_SECONDS = 0.1
# Where port 0 looks first. The kernel gives from 32768 (Linux) or 49152 on to whoever connects somewhere: a port from
# there may be gone in the seconds until the API listens, or starts again.
QUIET_PORTS = range(10_000, 20_000)
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens on all addresses


def address(host: str, port: int) -> str:
    """The URL by which this machine reaches a host and port that something listens on."""
    host = ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str, port: int, patience: float) -> int:
    """The port, once it is certain that it can be had; for port 0 any that is free.

    Raises:
        errors.BadInput: it cannot, for as many seconds as the patience lasts.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return _try(host, port)
        except OSError as error:
            if time.monotonic() >= until:
                raise errors.BadInput(
                    f"Cannot listen on {host}:{port} ({error.strerror}): choose another one with --port, "
                    "or --port 0 for any that is free.",
                    "port_in_use",
                ) from None
        time.sleep(RETRY_SECONDS)


def _try(host: str, port: int) -> int:
    if port:
        return _bound(host, port)
    for quiet in random.sample(QUIET_PORTS, 50):
        with contextlib.suppress(OSError):
            return _bound(host, quiet)
    return _bound(host, 0)


def _bound(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def why_not_ready(url: str, key: str) -> str:
    """Why the service is not ready yet, in a few words; empty if it is."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        checks = json.loads(answer.read()).get("checks", {})
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        return f"the API does not answer ({error})"
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.OK:
        return ""
    failing = [f"{name}: {check.get('detail')}" for name, check in checks.items() if not check.get("ok")]
    return "; ".join(failing) or f"/readyz answers {answer.status}"
