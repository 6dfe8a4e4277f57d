"""The listening server: granian, on the address of the settings."""

import socket
import sys
from typing import TYPE_CHECKING

import granian
from granian import constants
from granian import http as granian_http

from api.server import connection_guard
from core import settings

if TYPE_CHECKING:
    from api.server import asgi

SHUTDOWN_TIMEOUT_SECONDS = 10  # for requests in progress: a slow client must not delay a restart for longer
IDLE_TIMEOUT_MS = 25_000  # for the head of a request, from the moment the connection is open or the last response sent


def serve() -> int:
    """Serve until stopped; return 2 for a bad setting, or an address that cannot be listened on."""
    config = settings.read_or_exit()
    try:
        address = listen_address(config.host, config.port)
    except OSError as error:
        reason = f"cannot listen on {format_address(config.host, config.port)}: {error.strerror}"
        advice = "Choose another SORTBELT_HOST or SORTBELT_PORT."
        print(f"sortbelt: {reason}. {advice}", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        return 2
    max_connections = connection_guard.raise_file_limit(config.max_connections)
    granian.Granian(
        "api",
        address=address,
        port=config.port,
        interface=constants.Interfaces.ASGI,
        http=constants.HTTPModes.http1,
        http1_settings=granian_http.HTTP1Settings(header_read_timeout=IDLE_TIMEOUT_MS),
        websockets=False,
        backpressure=connection_guard.backpressure(max_connections),
        workers=config.api_processes,
        workers_kill_timeout=SHUTDOWN_TIMEOUT_SECONDS,
        log_access=False,
    ).serve(target_loader=load_application, wrap_loader=False)
    return 0


def load_application() -> "asgi.AsgiApp":
    """Create the application, in a server process; granian's own loader would import from the current folder first."""
    from api.server import process  # noqa: PLC0415 (the process that listens does not need it)

    return process.create()


def listen_address(host: str, port: int) -> str:
    """Return the first IPv4 or IPv6 address of a host on which this port can be listened on.

    Raises:
        OSError: there is none; the error is that of the last address.
    """
    last_error = OSError(0, "it has no address")
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        try:
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            last_error = error
        else:
            return str(address[0])
    raise last_error


def format_address(host: str, port: int) -> str:
    """Return a host and port as in a URL, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
