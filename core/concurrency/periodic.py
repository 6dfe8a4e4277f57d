"""Periodic thread: repeat a step until stopped; a step that fails is logged, and the next one follows."""

import logging
import random
import threading
from collections.abc import Callable

from core import errors

log = logging.getLogger(__name__)


def start(
    name: str,
    step: Callable[[], object],
    seconds: float,
    *,
    first_seconds: float | None = None,
    jitter: float = 0.0,
    stop: threading.Event | None = None,
) -> threading.Event:
    """Repeat a step in a thread of this process until an event is set; return that event.

    Args:
        name: the name of the thread.
        step: what is repeated.
        seconds: the pause before each step.
        first_seconds: the pause before the first step, if it is another one.
        jitter: the part of a pause by which it may be longer or shorter, so that processes that are started together
            do not work together.
        stop: the event; by default a new one.
    """
    stop = stop or threading.Event()
    first_seconds = seconds if first_seconds is None else first_seconds
    args = (name, step, seconds, first_seconds, jitter, stop)
    threading.Thread(target=_repeat, args=args, name=name, daemon=True).start()
    return stop


def run_once(name: str, step: Callable[[], object]) -> None:
    """Run a step; log its failure."""
    try:
        step()
    except errors.ServiceUnavailable as error:
        log.warning("%s: %s", name, error.detail)
    except Exception:
        log.exception("%s: a step failed; the next one follows", name)


def _repeat(
    name: str, step: Callable[[], object], seconds: float, pause: float, jitter: float, stop: threading.Event
) -> None:
    generator = random.Random()  # noqa: S311 (not a secret)
    while not stop.wait(generator.uniform(1 - jitter, 1 + jitter) * pause):
        run_once(name, step)
        pause = seconds
