"""Exclusive lock on a file, with the owner's pid beside it; the system releases it when the owner ends.

The lock is that of SQLite, on every system, on a database that stays empty: a library for locks takes longer to import.
"""

import contextlib
import os
import sqlite3
from pathlib import Path


class FileLock:
    """Lock on a file. Not acquired yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid_path = path.with_suffix(".pid")
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> bool:
        """Acquire the lock if no other process has it; return whether that succeeded.

        Raises:
            OSError: the file cannot be created.
        """
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                return False
            raise OSError(0, str(error)) from error
        self._connection = connection
        self._pid_path.write_text(f"{os.getpid()}\n", encoding="ascii")
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def owner_pid(self) -> str:
        """Return the pid of the process that acquired the lock last."""
        with contextlib.suppress(OSError):
            return self._pid_path.read_text(encoding="ascii").strip() or "unknown"
        return "unknown"
