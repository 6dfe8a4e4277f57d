"""Workers that start quickly: forked from a process that has imported what `python -m worker` imports.

They run the same code in the same way; only the seconds that importing torch takes are spent once.
"""

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

HEAVY = ("torch", "celery.bin.worker", "celery.apps.worker", "kombu.transport.redis", "model.classifier", "jobs.bell")
PR_SET_PDEATHSIG = 1


def context():
    """Where workers are born. It is made once; what it imports must not read settings."""
    born = multiprocessing.get_context("forkserver")
    born.set_forkserver_preload(["tests.faults.nursery"])
    return born


def preload():
    """Import what takes long; and end with whoever has started this, also if that is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in (*HEAVY, "worker.station", "tests.faults.points"):
        importlib.import_module(name)


def work(environ, log, arguments):
    """Be a worker: what `python -m worker` does once Python is up."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | (0 if Path(log).is_char_device() else os.O_CREAT))
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(environ)
    from celery.__main__ import main

    from tests.faults import points
    from worker.__main__ import COMMAND

    points.arm()
    sys.argv = ["celery", *COMMAND[2:], *arguments]
    main()


if multiprocessing.current_process().name != "MainProcess" or "forkserver" in " ".join(sys.orig_argv):
    preload()
