"""Fault points: `FAULT=NAME` or `FAULT=NAME:VALUE` in the environment breaks a worker or an API of the tests.

The product does not know about them. The poison image is all magenta.
"""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

MAGENTA = (255, 0, 255)


def install_fault():
    """Install the fault named in the environment."""
    name, _, value = os.environ.pop("FAULT", "").partition(":")
    if name:
        globals()[f"fault_{name}"](value)


def is_first_time(marker):
    """Return whether this is the first call, of all processes that share the file."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def kill_self():
    """End this process as `kill -9` does."""
    send_self(signal.SIGKILL)


def send_self(signal_number):
    """Send this process a fatal signal, and wait for its effect: another thread may get it, some time later."""
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


def call_before(target, name, action):
    """Run `action` before each call of a function of a module or class."""
    original = getattr(target, name)

    def wrapper(*args, **kwargs):
        action(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(target, name, wrapper)


def call_after(target, name, action):
    """Run `action` after each call returns."""
    original = getattr(target, name)

    def wrapper(*args, **kwargs):
        result = original(*args, **kwargs)
        action()
        return result

    setattr(target, name, wrapper)


def fault_dies_after_claim(marker):
    """Kill the worker when it has claimed images, the first time."""
    from worker.stages import claim

    call_after(claim.ClaimStage, "claim", lambda: is_first_time(marker) and kill_self())


def fault_dies_before_commit(marker):
    """Kill the worker inside the transaction that writes its results."""
    from core.db.queries import claims as claim_queries

    call_after(claim_queries, "finish", lambda: is_first_time(marker) and kill_self())


def fault_dies_after_commit(marker):
    """Kill the worker when its results are committed, before its Celery task ends."""
    from worker.stages import commit

    call_after(commit.CommitStage, "commit", lambda: is_first_time(marker) and kill_self())


def fault_segfaults(_):
    """Crash the process when the network gets the poison image."""
    _on_poison(lambda: send_self(signal.SIGSEGV))


def fault_hangs(_):
    """Block forever when the network gets the poison image."""

    def hang():
        print("the network hangs", file=sys.stderr, flush=True)
        time.sleep(3600)

    _on_poison(hang)


def fault_slow(seconds):
    """Delay each batch, and log it."""
    from worker import inference

    def delay(*_):
        print("a slow batch begins", file=sys.stderr, flush=True)
        time.sleep(float(seconds))

    call_before(inference.BatchClassifier, "classify", delay)


def fault_nan(_):
    """Return NaN for the poison image."""
    _replace_scores(lambda scores, poisoned: np.where(poisoned[:, None], np.float32(np.nan), scores))


def fault_too_few(_):
    """Return a class too few."""
    _replace_scores(lambda scores, _: scores[:, :-1])


def fault_oom(max_images):
    """Run out of memory for more than `max_images` images, and for any batch with the poison image."""
    import torch

    from model.inference import classifier

    def raise_out_of_memory(_, pixels):
        if len(pixels) > int(max_images) or (len(pixels) and _is_poison(pixels).any()):
            raise torch.OutOfMemoryError("a fault of the test's own")

    _before_inference(classifier.Classifier, raise_out_of_memory)


def fault_clock(seconds):
    """Set this process's clock wrong by so many seconds."""
    original = time.time
    time.time = lambda: original() + float(seconds)


def fault_dies_before_rows(marker):
    """Kill the API between writing the blobs and writing the rows."""
    from core.db.queries import jobs

    call_before(jobs, "insert_jobs", lambda *_, **__: is_first_time(marker) and kill_self())


def fault_dies_before_wakeup(marker):
    """Kill the API after the rows are committed, before it sends the wake-up and the response."""
    from core.broker import wakeup

    call_before(wakeup.WakeupSender, "send", lambda *_: is_first_time(marker) and kill_self())


def _is_poison(pixels):
    return (pixels.reshape(len(pixels), -1, 3) == MAGENTA).all(axis=(1, 2))


def _on_poison(action):
    from model.inference import classifier

    call_before(classifier.Classifier, "score", lambda _, pixels: _is_poison(pixels).any() and action())


def _before_inference(target, action):
    from model.inference import selftest

    def wrapper(self, pixels):
        selftest_image = selftest.reference_image(*pixels.shape[1:3])
        if not (pixels.shape == selftest_image.shape and (pixels == selftest_image).all()):
            action(self, pixels)

    call_before(target, "score", wrapper)


def _replace_scores(replace):
    from model.inference import classifier, selftest

    original = classifier.Classifier.score

    def wrapper(self, pixels):
        scores, selftest_image = original(self, pixels), selftest.reference_image(*pixels.shape[1:3])
        if pixels.shape == selftest_image.shape and (pixels == selftest_image).all():
            return scores
        return scores._replace(probabilities=replace(scores.probabilities, _is_poison(pixels)))

    classifier.Classifier.score = wrapper


def create():
    """Return the API's application with its fault, in a server process."""
    install_fault()
    from api.server import process

    return process.create()


def main():
    """Run the real API or worker with its fault: `python -m tests.faults.fault_points api` or `… worker`."""
    if sys.argv[1] == "worker":
        install_fault()
        from celery.__main__ import main as celery

        from worker.__main__ import ARGUMENTS

        sys.argv = ["celery", *ARGUMENTS, *sys.argv[2:]]
        celery()
    else:
        from api.server import listener

        entry_point = importlib.import_module("api.__main__")
        listener.load_application = importlib.import_module("tests.faults.fault_points").create
        sys.exit(entry_point.main())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    main()
