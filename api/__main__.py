"""`python -m api`: the HTTP server."""

import socket
import sys

import granian
from granian import constants

from jobs import settings

STOP_SECONDS = 10  # for requests under way once we are to stop; one slow sender must not hold a restart up


def main() -> int:
    """Serve until told to stop; 2 for a bad setting, or a port that is taken."""
    wanted = settings.read_or_exit()
    try:
        socket.create_server((wanted.host, wanted.port)).close()
    except OSError as error:
        reason = f"cannot listen on {wanted.host}:{wanted.port}: {error.strerror}"
        print(f"sortbelt: {reason}. Choose another SORTBELT_PORT.", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        return 2
    granian.Granian(
        "api.front:create",
        factory=True,
        address=wanted.host,
        port=wanted.port,
        interface=constants.Interfaces.ASGI,
        workers=1,
        workers_kill_timeout=STOP_SECONDS,
        log_access=False,
    ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
