"""`python -m api`: the HTTP server."""

import os
import sys

# glibc reads these when a process starts. By default it keeps an arena for each thread, and raises its threshold for
# returning memory, so that four requests of 25 MB leave 208 MB behind; with these, 9 MB. Workers need no less memory.
MALLOC_VARIABLES = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "262144"}


def main() -> int:
    """Start again with the variables of malloc unless they are set, then serve; return the exit code."""
    if not MALLOC_VARIABLES.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**MALLOC_VARIABLES, **os.environ})  # noqa: S606
    from api.server import listener  # noqa: PLC0415 (half a second, and once is enough)

    return listener.serve()


if __name__ == "__main__":
    sys.exit(main())
