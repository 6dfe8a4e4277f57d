"""A source in a local folder."""

import errno
import functools
import heapq
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from core import errors, specs
from core.concurrency import time_limit
from core.sources import base, source_archives
from core.sources.source_archives import NAME_TOO_LONG
from sortbelt.files import file_names
from sortbelt.files.file_rules import SPECIAL_FILE, SYMBOLIC_LINK, VANISHED, FileRules, is_archive

UNREADABLE_FOLDER = "unreadable folder"
READ_SECONDS = 45.0  # shorter than SORTBELT_WATCHDOG_SECONDS, after which the worker would end itself
MAX_HUNG_READS = 8
MAX_DEPTH = 256  # folders; a walk has a frame of the interpreter for each
# Failures of a disk, of the network or of this process, not of the file.
TRANSIENT_ERRNOS = {errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT}
TRANSIENT_ERRNOS |= {errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO}
T = TypeVar("T")
_ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SUBFOLDER_FLAGS = _ROOT_FLAGS | os.O_NOFOLLOW
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalSource:
    """A folder of this machine."""

    concurrency = 2

    def __init__(self, name: str, root: str) -> None:
        self.name = name
        self.address = root
        self._time_limit = time_limit.TimeLimit(READ_SECONDS, MAX_HUNG_READS)

    def walk(
        self, prefix: str, rules: FileRules, after: str | None = None, *, max_bytes: int
    ) -> Iterator[base.SourceEntry]:
        """See `Source.walk`."""
        folder = file_names.unescape_name(prefix)
        parts = folder.split("/") if folder else []
        try:
            os.close(self._open_folder(parts))
        except OSError as error:
            self._raise_if_transient(error)
            raise errors.SourcePathNotFound(f"{self.name} has no folder {prefix!r}: {error.strerror}.") from None
        after_parts = file_names.unescape_name(after).split("/")[len(parts) :] if after is not None else []
        return _Walk(self, rules, max_bytes).walk_folder(parts, after_parts)

    def list_folder(self, parts: Sequence[str], after: str, *, inclusive: bool) -> Iterator[tuple[str, os.stat_result]]:
        """List the entries of a folder by name; no folder stays open, because they may be nested deeply.

        Raises:
            OSError: it has vanished, or is not readable.
            errors.SourceUnavailable: the source does not answer.
        """
        while True:
            try:
                chunk = self._list_chunk(parts, lambda n: n > after or (inclusive and n == after))  # noqa: B023 (used at once)
            except OSError as error:
                self._raise_if_transient(error)
                raise
            yield from ((name, file_stat) for name, file_stat in chunk if file_stat is not None)
            if len(chunk) < base.LISTING_CHUNK:
                return
            after, inclusive = chunk[-1][0], False

    def _list_chunk(
        self, parts: Sequence[str], predicate: Callable[[str], bool]
    ) -> list[tuple[str, os.stat_result | None]]:
        """Return the first matching names with their stat results; None for one that has vanished."""
        folder_fd = self._open_folder(parts)
        try:
            with os.scandir(folder_fd) as entries:
                names = heapq.nsmallest(base.LISTING_CHUNK, (entry.name for entry in entries if predicate(entry.name)))
            return [(name, _stat(name, folder_fd)) for name in names]
        finally:
            os.close(folder_fd)

    def check(self) -> None:
        """See `Source.check`."""
        self._call(self._check)

    def _check(self) -> None:
        root_fd = self._open_folder([])
        try:
            with os.scandir(root_fd) as entries:
                next(entries, None)
        except OSError as error:
            raise errors.SourceUnavailable(self.name, str(error.strerror)) from error
        finally:
            os.close(root_fd)

    def read(self, path: str, max_bytes: int) -> bytes:
        """See `Source.read`."""
        return self._call(functools.partial(self._read, path, max_bytes))

    def _call(self, function: Callable[[], T]) -> T:
        """Call a function for a limited time: the disk may be of another machine, and hang."""
        try:
            return self._time_limit.call(function)
        except TimeoutError:
            raise errors.SourceUnavailable(self.name, f"a read has not ended after {READ_SECONDS:g} s") from None

    def _read(self, path: str, max_bytes: int) -> bytes:
        parts = file_names.unescape_name(path).split("/")
        if specs.DOT_SEGMENTS & set(parts):
            raise errors.BlobMissing("The image's path leads out of its source.")
        try:
            with self.open_file(parts) as opened:
                file_stat = os.fstat(opened.fileno())
                if not stat.S_ISREG(file_stat.st_mode):
                    raise errors.BlobMissing("The image's path in its source is not a regular file.")
                return opened.read(min(file_stat.st_size, max_bytes) + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise errors.BlobMissing("The image is not in its source any more.") from None
        except OSError as error:
            self._raise_if_transient(error)
            raise errors.BlobMissing(f"The image cannot be read from its source: {error.strerror}.") from None

    def open_file(self, parts: Sequence[str]) -> BinaryIO:
        """Open a file, which may be special; no part of its path may be a symbolic link.

        Raises:
            OSError: it cannot be opened.
            errors.SourceUnavailable: the source does not answer.
        """
        *folders, name = parts
        folder_fd = self._open_folder(folders)
        try:
            return os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=folder_fd), "rb")
        finally:
            os.close(folder_fd)

    def _open_folder(self, parts: Sequence[str]) -> int:
        """Open a folder step by step from the root, so that no part of its path is a symbolic link."""
        try:
            folder_fd = os.open(self.address, _ROOT_FLAGS)
        except OSError as error:
            raise errors.SourceUnavailable(self.name, str(error.strerror)) from error
        for part in parts:
            try:
                child_fd = os.open(part, _SUBFOLDER_FLAGS, dir_fd=folder_fd)
            finally:
                os.close(folder_fd)
            folder_fd = child_fd
        return folder_fd

    def _raise_if_transient(self, error: OSError) -> None:
        if error.errno == errno.EIO:
            raise errors.SourceReadError(self.name, str(error.strerror)) from error
        if error.errno in TRANSIENT_ERRNOS:
            raise errors.SourceUnavailable(self.name, str(error.strerror)) from error


class _Walk:
    """The listing of a folder, recursively."""

    def __init__(self, source: LocalSource, rules: FileRules, max_bytes: int) -> None:
        self._source = source
        self._rules = rules
        self._max_bytes = max_bytes

    def walk_folder(self, parts: Sequence[str], after_parts: Sequence[str]) -> Iterator[base.SourceEntry]:
        """List a folder from beyond a path in it."""
        first, rest = (after_parts[0], after_parts[1:]) if after_parts else ("", [])
        try:
            for name, file_stat in self._source.list_folder(parts, first, inclusive=bool(rest)):
                yield from self._list_entry([*parts, name], file_stat, rest if name == first else [])
        except OSError as error:
            reason = VANISHED if isinstance(error, FileNotFoundError) else UNREADABLE_FOLDER
            yield base.SourceEntry(file_names.escape_name("/".join(parts)), 0, reason)

    def _list_entry(
        self, parts: Sequence[str], file_stat: os.stat_result, after_parts: Sequence[str]
    ) -> Iterator[base.SourceEntry]:
        path = "/".join(parts)
        reason = self._skip_reason(path, file_stat)
        if not reason and stat.S_ISDIR(file_stat.st_mode):
            yield from self.walk_folder(parts, after_parts)
        elif not reason and is_archive(path):
            yield from self._list_archive(parts, path, after_parts)
        else:
            yield base.SourceEntry(file_names.escape_name(path), file_stat.st_size, reason)

    def _skip_reason(self, path: str, file_stat: os.stat_result) -> str:
        if reason := self._rules.skip_folder(path):
            return reason
        if stat.S_ISLNK(file_stat.st_mode):
            return SYMBOLIC_LINK
        is_folder = stat.S_ISDIR(file_stat.st_mode)
        if not is_folder and not stat.S_ISREG(file_stat.st_mode):
            return SPECIAL_FILE
        if file_names.is_too_long(file_names.escape_name(path)) or path.count("/") >= MAX_DEPTH:
            return NAME_TOO_LONG
        return "" if is_folder else self._rules.skip_file_or_archive(path)

    def _list_archive(self, parts: Sequence[str], path: str, after_parts: Sequence[str]) -> Iterator[base.SourceEntry]:
        try:
            with self._source.open_file(parts) as opened:
                size = os.fstat(opened.fileno()).st_size
                archive = source_archives.OpenArchive(opened, path, size)
                yield from source_archives.list_images(
                    archive, self._rules, "/".join(after_parts), max_bytes=self._max_bytes
                )
        except OSError as error:
            if error.errno in TRANSIENT_ERRNOS:
                raise errors.SourceUnavailable(self._source.name, str(error.strerror)) from error
            yield base.SourceEntry(file_names.escape_name(path), 0, source_archives.UNREADABLE_ARCHIVE)


def _stat(name: str, folder_fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
