"""Health check: `python -m worker.health` exits 0 if a worker on this host has made progress lately, else 1.

A worker's row in the database is fresh only while its pipeline works and the database is reachable. A ping would say
less: a thread that does no work answers it.
"""

import socket
import sys

from core import errors, settings
from core.db import database
from core.db.queries import workers


def main() -> int:
    """Look for a live worker with this host's name."""
    try:
        live_workers = database.Database(settings.read().database_url).read(workers.list_alive)
    except errors.SortbeltError as error:
        print(error.detail, file=sys.stderr)  # noqa: T201 (its only output)
        return 1
    host_prefix = f"{socket.gethostname()}:"
    return 0 if any(worker.id.startswith(host_prefix) and worker.is_progressing for worker in live_workers) else 1


if __name__ == "__main__":
    sys.exit(main())
