"""Exclusive lock on a file, with the owner's pid beside it; the system releases it when the owner ends."""

import contextlib
import os
from pathlib import Path

import filelock

PROBE_SECONDS = 0.02  # longer than the probe of another process


class FileLock:
    """Lock on a file. Not acquired yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid_path = path.with_suffix(".pid")
        self._lock = filelock.FileLock(path, mode=0o600, thread_local=False)

    def acquire(self, timeout: float) -> bool:
        """Acquire the lock within `timeout` seconds; return whether that succeeded.

        Raises:
            OSError: the file cannot be created.
        """
        try:
            self._lock.acquire(timeout)
        except filelock.Timeout:
            return False
        self._pid_path.write_text(f"{os.getpid()}\n", encoding="ascii")
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def is_held(self) -> bool:
        """Return whether another holder has the lock."""
        if not self._path.exists():
            return False
        probe = filelock.FileLock(self._path, thread_local=False)
        try:
            with probe.acquire(PROBE_SECONDS, poll_interval=PROBE_SECONDS / 2):
                return False
        except filelock.Timeout:
            return True
        except OSError:
            return False

    def owner_pid(self) -> str:
        """Return the pid of the process that acquired the lock last."""
        with contextlib.suppress(OSError):
            return self._pid_path.read_text(encoding="ascii").strip() or "unknown"
        return "unknown"
