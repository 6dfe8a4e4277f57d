"""CPU and memory of process trees, by role."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

ROLES = {  # by a part of the command line; the first match counts
    "-m sortbelt": "supervisor",
    "worker.decoding.decoder_child": "decoders",
    "redis-server": "redis",
    "postgres": "postgresql",
    "-m worker": "worker",
    "worker.app": "worker",
    "-m api": "api",
    "-m dispatcher": "dispatcher",
    "granian": "api",
    "celery": "worker",
}


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the start of the processes, and resident bytes now, by role."""

    cpu_seconds: Mapping[str, float]
    rss_bytes: Mapping[str, int]

    def since(self, earlier: "Usage") -> dict[str, float]:
        """Return CPU seconds by role since an earlier measurement."""
        return {role: seconds - earlier.cpu_seconds.get(role, 0.0) for role, seconds in self.cpu_seconds.items()}


def usage(*root_pids: int) -> Usage:
    """Measure these processes and their descendants; processes that have ended are not included."""
    cpu: dict[str, float] = defaultdict(float)
    rss: dict[str, int] = defaultdict(int)
    for root in root_pids:
        root_process = psutil.Process(root)
        for process in (root_process, *root_process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                role = role_of(" ".join(process.cmdline()), "server")
                times = process.cpu_times()
                cpu[role] += times.user + times.system
                rss[role] += process.memory_info().rss
    return Usage(dict(cpu), dict(rss))


def role_of(command_line: str, default: str) -> str:
    """Return the role of a process by its command line."""
    return next((role for marker, role in ROLES.items() if marker in command_line), default)
