"""The number of CPUs this process may use: its CPU affinity, limited by the container's quota."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """Return the usable CPUs, at least 1; a fraction of a CPU counts as one.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    limits = [math.ceil(quota) for quota in _cgroup_quotas(root)]
    return max(min(len(os.sched_getaffinity(0)), *limits, 2**16), 1)


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in CPUs, of this process's control group and of each of its ancestors that has one."""
    mount = root / "sys" / "fs" / "cgroup"
    for line in (_read(root / "proc" / "self" / "cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for group in _ancestors(path):
            if not controllers:
                yield from _parse_quota(_read(mount / group / "cpu.max"))
                continue
            for hierarchy in ("cpu", controllers):
                folder = mount / hierarchy / group
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                yield from _parse_quota(f"{quota} {period}")


def _ancestors(path: str) -> Iterator[str]:
    """Yield a group's path and those of its ancestors, relative to the mount. In a container only the root exists."""
    parts = path.strip("/").split("/")
    for end in range(len(parts), -1, -1):
        yield "/".join(parts[:end])


def _parse_quota(text: str | None) -> Iterator[float]:
    """Yield the CPUs in `QUOTA PERIOD` (microseconds); nothing for `max`, -1, or a file that is missing."""
    try:
        quota, period = map(int, (text or "").split())
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
