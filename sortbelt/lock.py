"""A lock file with its owner's pid; the system lets go of it when the owner ends, however that happens."""

import contextlib
import os
import sys
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl

RETRY_SECONDS = 0.05


class Lock:
    """A lock on a file, not yet taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def take(self, patience: float) -> bool:
        """Whether it could be had within so many seconds; it is then held until `release` or the process ends.

        Raises:
            OSError: the file cannot be made.
        """
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + patience
        while not _flock(self._fd, shared=False):
            if time.monotonic() >= until:
                self.release()
                return False
            time.sleep(RETRY_SECONDS)
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())
        return True

    def release(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def held(self) -> bool:
        """Whether some process holds it."""
        try:
            glance = os.open(self._path, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _flock(glance, shared=True)
        finally:
            os.close(glance)

    def owner(self) -> str:
        """The pid of the process that took it last."""
        with contextlib.suppress(OSError):
            return self._path.read_text(encoding="ascii").strip() or "unknown"
        return "unknown"


def _flock(fd: int, *, shared: bool) -> bool:
    if sys.platform == "win32":  # `up` does not run there
        return True
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    return False
