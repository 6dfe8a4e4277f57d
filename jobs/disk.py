"""The disk: makes what was written outlive a power cut, with one flush for all who ask at the same time."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from jobs import company

_LIBC = ctypes.CDLL(None, use_errno=True)


class Disk:
    """The file system that a folder lies on.

    Sixteen files flushed one by one cost about ten times the wait of one flush of the whole file system
    (bench/README.md): each flush of a file waits for a commit of the file system's journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._company = company.Company(self._flush)

    def flush(self) -> None:
        """Return once everything that was written and renamed before the call is on the disk.

        Raises:
            OSError: something could not be written.
        """
        self._company.ask(None)

    def _flush(self, asked: Sequence[None]) -> Sequence[None]:
        _syncfs(self._folder)
        return asked


def _syncfs(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
