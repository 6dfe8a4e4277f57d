"""SQLite's files: whether those that are open are still the ones in the folder, and whether their pages are intact.

A file that is deleted stays usable for the processes that have it open: they would accept jobs that are lost with them.
"""

import contextlib
import sqlite3
from pathlib import Path

from core import errors

MAX_CHECKED_BYTES = 64_000_000  # a larger database is not checked as a whole
FileId = tuple[int, int]
"""The device and the inode of a file."""


class SqliteFiles:
    """The files of one database, as this process has opened them first."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._wal_path = Path(f"{path}-wal")
        self._database_id: FileId | None = None
        self._wal_id: FileId | None = None
        self._connections = 0

    def add_connection(self) -> None:
        """Count a connection that was just opened; remember the files of the first."""
        self._database_id = self._database_id or _file_id(self._path)
        if not self._connections:
            self._wal_id = _file_id(self._wal_path)  # None before the first write to a new database
        self._connections += 1

    def remove_connection(self) -> None:
        """Count a connection as closed: SQLite deletes the write-ahead log with the last one."""
        self._connections -= 1

    def check(self) -> None:
        """Check that the files are still the same.

        Raises:
            errors.DatabaseUnavailable: one of them was deleted or replaced.
        """
        if self._database_id is None:  # nothing was opened yet, or it is in memory
            return
        try:
            database, wal = self._path.stat(), self._wal_path.stat() if self._connections else None
        except FileNotFoundError as error:
            if error.filename == str(self._path) or self._wal_id is not None:
                raise _replaced(Path(error.filename)) from None
            return
        if (database.st_dev, database.st_ino) != self._database_id:
            raise _replaced(self._path)
        if wal is not None:
            wal_id = wal.st_dev, wal.st_ino
            self._wal_id = self._wal_id or wal_id
            if self._wal_id != wal_id:
                raise _replaced(self._wal_path)

    def check_pages(self) -> None:
        """Check the pages of the database as they are on disk, unless it is large.

        Raises:
            errors.DatabaseUnavailable: some are damaged, or the file cannot be read or was deleted.
        """
        self.check()
        try:
            if self._path.stat().st_size > MAX_CHECKED_BYTES:
                return
            # A connection of its own: others have pages in memory.
            with contextlib.closing(sqlite3.connect(self._path, timeout=1.0)) as connection:
                (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except (OSError, sqlite3.Error) as error:
            problem = str(error)
        if problem != "ok":
            raise errors.DatabaseUnavailable(f"The database is damaged ({problem}): restore it from a backup.")


def _file_id(path: Path) -> FileId | None:
    try:
        file_stat = path.stat()
    except OSError:
        return None
    return file_stat.st_dev, file_stat.st_ino


def _replaced(path: Path) -> errors.DatabaseUnavailable:
    return errors.DatabaseUnavailable(
        f"The file {path} was deleted or replaced while it was in use: nothing is accepted, because it would be lost. "
        "Restore it, and restart all processes."
    )
