"""Run the dispatcher, `python -m dispatcher`: it sends webhooks, and imports images from sources and URLs.

Any number of dispatchers may run; they share the work. Each kind of task has threads of its own.
"""

import argparse
import contextlib
import logging
import signal
import sys
import threading

from core import errors, settings
from core.db import database
from core.db.queries import scans, url_fetches, webhook_deliveries
from core.tracing import tracer
from dispatcher import source_importer, url_fetcher, webhook_dispatcher


def main() -> int:
    """Run until stopped; exit with 0, or 2 for a bad setting. With --check: 1 if any is overdue, 3 without database."""
    parser = argparse.ArgumentParser(prog="python -m dispatcher", description=__doc__.partition("\n\n")[2])
    parser.add_argument(
        "--check", action="store_true", help="report whether tasks are overdue: exit with 1 if so, else 0"
    )
    parser.add_argument("--loglevel", default="WARNING", help="DEBUG, INFO (each failed attempt), WARNING or ERROR")
    args = parser.parse_args()
    config = settings.read_or_exit()
    db = database.Database(config.database_url)
    if args.check:
        with contextlib.closing(db):
            return _check_overdue(db)
    logging.basicConfig(level=args.loglevel, format="%(asctime)s %(levelname)s %(message)s")
    tracer.start_or_exit("sortbelt-dispatcher", enabled=config.tracing)
    webhook_loop = webhook_dispatcher.WebhookDispatcher(config, db)
    background_loops = (source_importer.SourceImporter(config, db), url_fetcher.UrlFetcher(config, db))

    def stop(*_: object) -> None:
        for loop in (webhook_loop, *background_loops):
            loop.stop()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    threads = [threading.Thread(target=loop.run) for loop in background_loops]
    for thread in threads:
        thread.start()
    webhook_loop.run()
    for thread in threads:
        thread.join()
    tracer.close()
    return 0


def _check_overdue(db: database.Database) -> int:
    try:
        counts = [db.read(queries.count_overdue) for queries in (webhook_deliveries, scans, url_fetches)]
    except errors.DatabaseUnavailable as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only output)
        return 3
    print("{} webhooks, {} imports and {} fetches are overdue".format(*counts))  # noqa: T201 (the output)
    return 1 if any(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
