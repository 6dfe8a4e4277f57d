"""Fault points of the tests' own worker and API: what `FAULT=NAME` or `FAULT=NAME:VALUE` breaks, and when.

No part of the product knows of them. A picture all in magenta is the poison for those that want one.
"""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

MAGENTA = (255, 0, 255)


def arm():
    """Set the fault that the environment asks for."""
    name, _, value = os.environ.pop("FAULT", "").partition(":")
    if name:
        globals()[f"fault_{name}"](value)


def once(marker):
    """Whether this is the first time, of all processes that know the file."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def die():
    """As by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def before(where, name, act):
    """Do something before a function of a module or class is called."""
    real = getattr(where, name)

    def changed(*args, **kwargs):
        act(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(where, name, changed)


def after(where, name, act):
    """Do something after it has returned."""
    real = getattr(where, name)

    def changed(*args, **kwargs):
        answer = real(*args, **kwargs)
        act()
        return answer

    setattr(where, name, changed)


def fault_dies_after_claim(marker):
    """The worker dies with claimed images in hand, the first time."""
    from worker import drain

    after(drain.Drain, "_claim", lambda: once(marker) and die())


def fault_dies_before_commit(marker):
    """The worker dies inside the transaction that writes its results."""
    from jobs.store import work

    after(work, "finish", lambda: once(marker) and die())


def fault_dies_after_commit(marker):
    """The worker dies when its results are written, before Celery hears of it."""
    from worker import drain

    after(drain.Drain, "_commit", lambda: once(marker) and die())


def fault_segfaults(_):
    """The network takes its process down at the poison."""
    _at_poison(lambda: os.kill(os.getpid(), signal.SIGSEGV))


def fault_hangs(_):
    """The network never comes back from the poison."""
    _at_poison(lambda: time.sleep(3600))


def fault_slow(seconds):
    """The network takes its time."""
    from worker import classify

    before(classify.Judge, "fates", lambda *_: time.sleep(float(seconds)))


def fault_nan(_):
    """The network answers the poison with what is no number."""
    _answers(lambda scores, poisoned: np.where(poisoned[:, None], np.float32(np.nan), scores))


def fault_too_few(_):
    """The network gives a class too few."""
    _answers(lambda scores, _: scores[:, :-1])


def fault_oom(most):
    """The device has memory for so many pictures; for none where the poison is."""
    import torch

    from model import classifier

    def refuse(_, pixels):
        if len(pixels) > int(most) or (len(pixels) and _poisoned(pixels).any()):
            raise torch.OutOfMemoryError("a fault of the test's own")

    _unless_selftest(classifier.Classifier, refuse)


def fault_clock(seconds):
    """This process's clock is wrong by so many seconds."""
    real = time.time
    time.time = lambda: real() + float(seconds)


def fault_dies_before_rows(marker):
    """The API dies between writing the pictures and writing the rows."""
    from jobs.store import jobs

    before(jobs, "take", lambda *_, **__: once(marker) and die())


def fault_dies_before_bell(marker):
    """The API dies after the rows are committed, before it rings and answers."""
    from jobs import bell

    before(bell.Bell, "ring", lambda *_: once(marker) and die())


def _poisoned(pixels):
    return (pixels.reshape(len(pixels), -1, 3) == MAGENTA).all(axis=(1, 2))


def _at_poison(act):
    from model import classifier

    before(classifier.Classifier, "classify", lambda _, pixels: _poisoned(pixels).any() and act())


def _unless_selftest(where, act):
    from model import selftest

    def check(self, pixels):
        drawn = selftest.picture(*pixels.shape[1:3])
        if not (pixels.shape == drawn.shape and (pixels == drawn).all()):
            act(self, pixels)

    before(where, "classify", check)


def _answers(change):
    from model import classifier, selftest

    real = classifier.Classifier.classify

    def changed(self, pixels):
        scores, drawn = real(self, pixels), selftest.picture(*pixels.shape[1:3])
        if pixels.shape == drawn.shape and (pixels == drawn).all():
            return scores
        return change(scores, _poisoned(pixels))

    classifier.Classifier.classify = changed


def create():
    """The API's application, with its fault; for granian."""
    arm()
    from api import front

    return front.create()


def main():
    """`python -m tests.faults.points api` or `… worker`: the real entrance, with the fault of the environment."""
    if sys.argv[1] == "worker":
        arm()
        from celery.__main__ import main as celery

        from worker.__main__ import COMMAND

        sys.argv = ["celery", *COMMAND[2:], *sys.argv[2:]]
        celery()
    else:
        import granian

        real = granian.Granian
        entrance = importlib.import_module("api.__main__")
        granian.Granian = lambda _, **options: real("tests.faults.points:create", **options)
        sys.exit(entrance.main())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    main()
