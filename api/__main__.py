"""`python -m api`: the HTTP server."""

import sys

import granian
from granian import constants

from jobs import errors, settings


def main() -> int:
    """Serve until told to stop; 2 for a bad setting."""
    try:
        wanted = settings.read()
    except errors.BadSetting as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only voice)
        return 2
    granian.Granian(
        "api.wsgi:app",
        address=wanted.host,
        port=wanted.port,
        interface=constants.Interfaces.WSGI,
        workers=1,
        blocking_threads=wanted.api_threads,
        log_access=False,
    ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
