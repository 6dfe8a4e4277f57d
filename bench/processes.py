"""Processes: what CPU and memory everything below some process takes, by role."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

ROLES = {  # a mark in the command line; the first that fits
    "-m sortbelt": "supervisor",
    "worker.decoder": "decoders",
    "redis-server": "redis",
    "postgres": "postgresql",
    "-m worker": "worker",
    "worker.app": "worker",
    "-m api": "api",
    "granian": "api",
    "celery": "worker",
}


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the processes began, and resident bytes now, by role."""

    cpu_seconds: Mapping[str, float]
    rss_bytes: Mapping[str, int]

    def since(self, before: "Usage") -> dict[str, float]:
        """CPU seconds by role between two looks."""
        return {role: seconds - before.cpu_seconds.get(role, 0.0) for role, seconds in self.cpu_seconds.items()}


def usage(*roots: int) -> Usage:
    """What these processes and all below them have taken. Whoever died meanwhile is left out, with his CPU."""
    cpu: dict[str, float] = defaultdict(float)
    rss: dict[str, int] = defaultdict(int)
    for root in roots:
        main = psutil.Process(root)
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                role = role_of(" ".join(process.cmdline()), "server")
                times = process.cpu_times()
                cpu[role] += times.user + times.system
                rss[role] += process.memory_info().rss
    return Usage(dict(cpu), dict(rss))


def role_of(command_line: str, otherwise: str) -> str:
    """What a process is for, by its command line."""
    return next((role for mark, role in ROLES.items() if mark in command_line), otherwise)
