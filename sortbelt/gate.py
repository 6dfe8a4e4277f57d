"""`python -m sortbelt.gate LIBRARY MODULE ARGUMENT…`: a program that has its libraries ready before it may start.

Importing a worker's libraries takes seconds, in which the database is still being migrated: it imports LIBRARY, waits
for leave on its stdin, and becomes `python -m MODULE ARGUMENT…`. If whoever started it is gone, it ends.
"""

import contextlib
import importlib
import runpy
import sys

LEAVE = b"go"


def main() -> None:
    """Import, wait, become the module."""
    library, module, *arguments = sys.argv[1:]
    with contextlib.suppress(Exception):  # the module itself will say better what is wrong
        importlib.import_module(library)
    if sys.stdin.buffer.read(len(LEAVE)) != LEAVE:
        sys.exit(1)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
