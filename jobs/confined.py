"""Confined: what a child process gives up that turns strangers' bytes into pixels."""

import ctypes
import resource
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38


def confine(memory_bytes: int, file_bytes: int = 0) -> None:
    """Give up what decoding does not need: memory without end, files beyond a size, core dumps, privileges."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def allow_cpu(seconds: int) -> None:
    """Let this process compute for so long from now on; then the kernel ends it."""
    # The limit counts from the start of the process.
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds, resource.RLIM_INFINITY))
