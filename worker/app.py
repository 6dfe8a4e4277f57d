"""Celery app: one task, `drain`, which runs the pipeline of this process's runtime.

Start it with `python -m worker`, one process per device, with the pool `solo`: CUDA must not be forked, and only one
thread may use the connection to Redis (docs/decisions/0002-celery.md).
"""

import logging
import os
import signal
import sys
from typing import Any

from celery import signals

from core import errors, settings
from core.broker import celery_app
from core.tracing import tracer
from model.packaging import manifest

SETTINGS = settings.read_or_exit()
app = celery_app.create_celery_app(SETTINGS.redis_url)
app.conf.update(worker_pool="solo", worker_hijack_root_logger=True)


@app.task(name=celery_app.TASK_NAME)
def drain() -> None:
    """Run the pipeline for at most `task_seconds`."""
    app.runtime.pipeline.run()


@signals.worker_init.connect
def _on_worker_init(**_: Any) -> None:
    # Not at the top: importing torch takes seconds, which a process that only sends wake-ups need not spend.
    from worker import runtime  # noqa: PLC0415

    signal.signal(signal.SIGTERM, _on_early_sigterm)
    # Celery prints to stdout (a banner, a line in its signal handlers), which ends the worker if stdout is closed.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    try:
        tracer.start_or_exit("sortbelt-worker", enabled=SETTINGS.tracing)
        app.runtime = runtime.WorkerRuntime(SETTINGS)
    except (manifest.InvalidBundle, errors.SortbeltError, ValueError) as error:
        print(f"sortbelt: the worker cannot start: {error}", file=sys.stderr)  # noqa: T201 (its only output)
        sys.exit(1)


def _on_early_sigterm(*_: Any) -> None:
    # Celery handles SIGTERM only once it has started; the runtime may have claimed images by then.
    if hasattr(app, "runtime"):
        if app.runtime.is_stopping:
            os._exit(1)
        app.runtime.close()
    os._exit(0)


@signals.worker_shutting_down.connect
def _on_shutting_down(how: str, **_: Any) -> None:
    # A second SIGTERM, or a SIGQUIT, means now: the images are requeued as those of a killed worker.
    if how == "Cold" or app.runtime.is_stopping:
        os._exit(1)
    app.runtime.stop()


@signals.worker_shutdown.connect
def _on_shutdown(**_: Any) -> None:
    app.runtime.close()
    tracer.close()
