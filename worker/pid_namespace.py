"""PID namespace: whether a process whose id another worker has stored can be looked up from here, and lives."""

import os
import socket
from pathlib import Path

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE_FILE = Path("/proc/self/ns/pid")


def name() -> str | None:
    """Return what processes have in common that see each other's ids: host, boot and namespace; None if unknown.

    Source: pid_namespaces(7). The kernel may give the number of a namespace that is gone to a new one; its processes
    are gone then too. The host's name is part of it because clones of a virtual machine may share all the rest.
    """
    try:
        return f"{socket.gethostname()}/{BOOT_ID_FILE.read_text().strip()}/{NAMESPACE_FILE.stat().st_ino}"
    except OSError:
        return None  # not Linux, or without /proc


def is_dead(pid: int) -> bool:
    """Return whether no process of this namespace has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it belongs to another user
    return False
