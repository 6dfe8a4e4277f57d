"""Exclusive lock on a folder itself: no file in it can be removed or replaced to get the lock a second time."""

import contextlib
import os
import time
from pathlib import Path

POLL_SECONDS = 0.01


class FolderLock:
    """Lock on a folder, with the owner's pid in a file. Not acquired yet; it ends with its owner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid_path = folder / "up.pid"
        self._fd: int | None = None

    def acquire(self, timeout: float) -> bool:
        """Acquire the lock within `timeout` seconds; return whether that succeeded.

        Raises:
            OSError: the folder cannot be opened.
        """
        fd = os.open(self._folder, os.O_RDONLY)
        deadline = time.monotonic() + timeout
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                os.close(fd)
                return False
            time.sleep(POLL_SECONDS)
        self._fd = fd
        self._pid_path.write_text(f"{os.getpid()}\n", encoding="ascii")
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_held(self) -> bool:
        """Return whether another holder has the lock."""
        try:
            fd = os.open(self._folder, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _try_lock(fd)
        finally:
            os.close(fd)

    def owner_pid(self) -> str:
        """Return the pid of the process that acquired the lock last."""
        with contextlib.suppress(OSError):
            return self._pid_path.read_text(encoding="ascii").strip() or "unknown"
        return "unknown"


def _try_lock(fd: int) -> bool:
    import fcntl  # noqa: PLC0415 (not on Windows, where the client works and `up` does not)

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
