"""The disk: makes what was written outlive a power cut, with one flush for all who ask at the same time."""

import ctypes
import os
import threading
from concurrent import futures
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


class Disk:
    """The file system that a folder lies on.

    Sixteen files flushed one by one cost about ten times the wait of one flush of the whole file system
    (bench/README.md): each flush of a file waits for a commit of the file system's journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._next: futures.Future[None] | None = None

    def flush(self) -> None:
        """Return once everything that was written and renamed before the call is on the disk.

        While a flush is under way, those who ask gather, and the next flush serves them all.

        Raises:
            OSError: something could not be written.
        """
        with self._lock:
            leads = self._next is None
            company = self._next = self._next or futures.Future()
        if leads:
            with self._flushing:
                with self._lock:
                    self._next = None
                try:
                    _syncfs(self._folder)
                    company.set_result(None)
                except OSError as error:
                    company.set_exception(error)
        company.result()


def _syncfs(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
