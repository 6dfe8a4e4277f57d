"""`python -m api`: the HTTP server."""

import os
import socket
import sys

import granian
from granian import constants

from jobs import settings


def main() -> int:
    """Serve until told to stop; 2 for a bad setting, or a port that is taken."""
    wanted = settings.read_or_exit()
    try:
        socket.create_server((wanted.host, wanted.port)).close()
    except OSError as error:
        reason = f"cannot listen on {wanted.host}:{wanted.port}: {error.strerror}"
        print(f"sortbelt: {reason}. Choose another SORTBELT_PORT.", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        return 2
    # An arena for each thread would keep what big bodies once took (bench/README.md).
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    granian.Granian(
        "api.front:create",
        factory=True,
        address=wanted.host,
        port=wanted.port,
        interface=constants.Interfaces.ASGI,
        workers=1,
        log_access=False,
    ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
