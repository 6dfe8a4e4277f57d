"""Limits of a sandboxed process: memory, CPU time, files, and no life beyond the parent's."""

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

MAX_OPEN_FILES = 64  # a request of 32 images, and a few of its own
PR_SET_PDEATHSIG = 1
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BLOCK_BYTES = 8_000_000


def apply_rlimits(memory_bytes: int, file_bytes: int = 0) -> None:
    """Limit how far this process's memory may grow, its file size and open files; disable core dumps."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    address_space_bytes = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))


def limit_cpu_time(seconds: float) -> None:
    """End this process by SIGPROF once it has computed for so long from now; RLIMIT_CPU counts whole seconds only."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def release_freed_memory() -> None:
    """Have freed memory not count against the memory limit, so that each image has as much as the first.

    By default glibc keeps freed blocks of up to 32 MB, and reserves 64 MB of addresses for each thread of a codec.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
    libc.mallopt(M_ARENA_MAX, 1)


def prefer_oom_kill() -> None:
    """Let the kernel kill this process before others when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def exit_with_parent(parent_pid: int) -> None:
    """Kill this process when its parent, the process `parent_pid`, ends for any reason."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)
