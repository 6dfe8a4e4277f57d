"""`python -m worker.health`: whether the worker of this host gets on; exit 0 if its row of the table is fresh, else 1.

A worker keeps its row fresh only while its work moves and it reaches the database: that says more than an answer to
a ping, which comes from a thread that does no work.
"""

import socket
import sys

from jobs import database, errors, settings
from jobs.store import workers


def main() -> int:
    """Look for a living worker of this host's name."""
    try:
        living = database.Database(settings.read().database_url).read(workers.living)
    except errors.SortbeltError as error:
        print(error.detail, file=sys.stderr)  # noqa: T201 (its only voice)
        return 1
    return 0 if any(worker.id.startswith(f"{socket.gethostname()}:") and worker.gets_on for worker in living) else 1


if __name__ == "__main__":
    sys.exit(main())
