"""`python -m worker`: a Celery worker with the flags that it is meant to have; more may follow."""

import os
import sys

# No gossip, mingle, heartbeat: nobody listens, and a heartbeat that finds Redis gone would hold the process up.
COMMAND = ["-m", "celery", "-A", "worker.app", "worker", "--without-gossip", "--without-mingle", "--without-heartbeat"]

if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, *COMMAND, *sys.argv[1:]])  # noqa: S606 (it becomes the worker)
