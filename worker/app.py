"""The Celery app: one task, `drain`, and the station that it works with.

Start it with `python -m worker`. One process a device, with the pool `solo`: CUDA never meets a fork, and
nobody but the thread that listens to Redis speaks to it (docs/decisions/0002-celery.md).
"""

import logging
import os
import signal
import sys
from typing import Any

from celery import signals

from jobs import bell, errors, settings, tracing
from model import manifest

SETTINGS = settings.read_or_exit()
app = bell.celery_app(SETTINGS.redis_url)
app.conf.update(worker_pool="solo", worker_hijack_root_logger=True)


@app.task(name=bell.TASK)
def drain() -> None:
    """Work off the queue for a while."""
    app.station.drain.run()


@signals.worker_init.connect
def _open(**_: Any) -> None:
    # Here, not above: importing torch takes seconds, and whoever only rings must not pay them.
    from worker import station  # noqa: PLC0415

    signal.signal(signal.SIGTERM, _end_early)
    # Celery's chatter on stdout (a banner, a line in its signal handlers) ends the worker where nobody can take it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    try:
        tracing.start_or_exit("sortbelt-worker", on=SETTINGS.tracing)
        app.station = station.Station(SETTINGS)
    except (manifest.BadBundle, errors.SortbeltError, ValueError) as error:
        print(f"sortbelt: the worker cannot start: {error}", file=sys.stderr)  # noqa: T201 (the last thing it says)
        sys.exit(1)


def _end_early(*_: Any) -> None:
    # Celery listens for SIGTERM only when it is up; the station may have claimed by then.
    if hasattr(app, "station"):
        app.station.close()
    os._exit(0)


@signals.worker_shutting_down.connect
def _stop(how: str, **_: Any) -> None:
    # The second order, or SIGQUIT, is from somebody who does not want to wait: the leases free what is in hand.
    if how == "Cold" or app.station.stopping:
        os._exit(1)
    app.station.stop()


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    app.station.close()
    tracing.close()
