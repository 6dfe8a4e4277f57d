"""Run a Celery worker with the options that Sortbelt needs: `python -m worker [CELERY OPTIONS]`."""

import os
import sys

# Without gossip, mingle and heartbeat, which serve other workers only: a heartbeat that finds Redis gone would block.
ARGUMENTS = ["-A", "worker.app", "worker", "--without-gossip", "--without-mingle", "--without-heartbeat"]

# Celery imports the app with the current folder first on the import path, unless it is imported already.
START = "import sys, worker.app; from celery.__main__ import main; sys.argv[0] = 'celery'; main()"

if __name__ == "__main__":
    command = [sys.executable, "-P", "-c", START, *ARGUMENTS, *sys.argv[1:]]
    os.execv(sys.executable, command)  # noqa: S606 (Celery replaces this process)
