"""Start workers quickly: fork them from a process that has imported what `python -m worker` imports.

They run the same code; only the seconds that importing torch takes are spent once.
"""

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

HEAVY_MODULES = (
    "torch",
    "celery.bin.worker",
    "celery.apps.worker",
    "kombu.transport.redis",
    "model.inference.classifier",
    "core.broker.wakeup",
)
PR_SET_PDEATHSIG = 1


def forkserver_context():
    """Return the context that forks workers; the modules that it preloads must not read settings."""
    mp_context = multiprocessing.get_context("forkserver")
    mp_context.set_forkserver_preload(["tests.faults.forkserver"])
    return mp_context


def preload():
    """Import the heavy modules; end this process when its parent ends, even if that is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in (*HEAVY_MODULES, "worker.runtime", "tests.faults.fault_points"):
        importlib.import_module(name)


def run_worker(environ, log_path, arguments):
    """Run a worker, as `python -m worker` does once Python has started."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    descriptor = os.open(log_path, os.O_WRONLY | os.O_APPEND | (0 if Path(log_path).is_char_device() else os.O_CREAT))
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(environ)
    from celery.__main__ import main

    from tests.faults import fault_points
    from worker.__main__ import ARGUMENTS

    fault_points.install_fault()
    sys.argv = ["celery", *ARGUMENTS, *arguments]
    main()


if multiprocessing.current_process().name != "MainProcess" or "forkserver" in " ".join(sys.orig_argv):
    preload()
