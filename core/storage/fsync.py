"""Filesystem sync: written files survive a power failure, with one flush for all concurrent callers."""

import ctypes
import os
import threading
from concurrent import futures
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


class FilesystemSync:
    """Flush the file system of a folder to disk, once for all callers that wait; thread-safe.

    Flushing sixteen files one by one takes about ten times as long as one flush of the whole file system: each flush of
    a file waits for a commit of the file system's journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._next: futures.Future[None] | None = None
        """The flush that has not begun yet, if any caller waits for one."""

    def flush(self) -> None:
        """Return once everything that was written and renamed before the call is on disk.

        While a flush is running, callers wait for the next, which is one for all of them.

        Raises:
            OSError: the folder cannot be opened, or its file system cannot be flushed.
        """
        with self._lock:
            is_leader = self._next is None
            flushed = self._next = self._next or futures.Future()
        if is_leader:
            with self._flush_lock:
                with self._lock:
                    self._next = None
                try:
                    _syncfs(self._folder)
                    flushed.set_result(None)
                except BaseException as error:  # noqa: BLE001 (else the other callers would wait without end)
                    flushed.set_exception(error)
        flushed.result()


def _syncfs(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        if _LIBC.syncfs(fd):
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))
    finally:
        os.close(fd)
