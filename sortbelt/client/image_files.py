"""Images to upload: name in the job, bytes or path, and batches for one request."""

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from sortbelt import errors
from sortbelt.files import file_names

T = TypeVar("T")
MAX_BATCH_IMAGES = 32  # per request: enough to make the cost of HTTP and of a transaction negligible
MAX_BATCH_BYTES = 4_000_000  # per request: small enough for several in memory on both sides
MAX_IMAGE_BYTES = 60_000_000  # larger files are not even read, since no server accepts them
MAX_SHOWN_CHARACTERS = 60  # of a name that is too long

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class ByteSource(Protocol):
    """Bytes of an image that are not a file of their own."""

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            errors.BadInput: they cannot be read; `code` says why.
        """


class Unreadable(NamedTuple):
    """Image that is known to be unreadable: reading it raises the error."""

    error: errors.BadInput

    def read(self) -> bytes:
        """Raise the error."""
        raise self.error


class Image(NamedTuple):
    """Image with a name that is unique in its job, and its bytes or where they are.

    Attributes:
        name: name in the job.
        size: size in bytes.
        source: the bytes, the path of a regular file, or what reads them.
        mtime_ns: modification time of the file, in nanoseconds since 1970; 0 without a file.
        sha256: digest of the bytes, in hexadecimal; empty while they have not been read.
    """

    name: str
    size: int
    source: str | bytes | ByteSource
    mtime_ns: int = 0
    sha256: str = ""

    def read(self) -> bytes:
        """Read the bytes. Only regular files are read, and links are not followed.

        Raises:
            errors.BadInput: the file cannot be read; `code` says why.
        """
        if isinstance(self.source, bytes):
            return self.source
        if not isinstance(self.source, str):
            return self.source.read()
        with self._open(self.source) as file:
            return file.read()

    def with_digest(self) -> "Image":
        """Return a copy with digest, size and modification time, read in chunks.

        Raises:
            errors.BadInput: the file cannot be read; `code` says why.
        """
        if not isinstance(self.source, str):
            return self._replace(sha256=hashlib.sha256(self.read()).hexdigest())
        with self._open(self.source) as file:
            file_stat = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return self._replace(size=file_stat.st_size, mtime_ns=file_stat.st_mtime_ns, sha256=digest)

    def with_bytes(self) -> "Image":
        """Return a copy with the bytes in memory, and their digest, size and modification time.

        Raises:
            errors.BadInput: the file cannot be read; `code` says why.
        """
        if isinstance(self.source, bytes):
            return self if self.sha256 else self._replace(sha256=hashlib.sha256(self.source).hexdigest())
        if not isinstance(self.source, str):
            data = self.source.read()
            return Image(self.name, len(data), data, self.mtime_ns, hashlib.sha256(data).hexdigest())
        with self._open(self.source) as file:
            file_stat = os.fstat(file.fileno())
            data = file.read()
        is_unchanged = (file_stat.st_size, file_stat.st_mtime_ns) == (self.size, self.mtime_ns)
        digest = self.sha256 if is_unchanged and self.sha256 else hashlib.sha256(data).hexdigest()
        return Image(self.name, len(data), data, file_stat.st_mtime_ns, digest)

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[io.FileIO]:
        try:
            # Without O_NONBLOCK, opening a pipe that has replaced the file would hang.
            with open(os.open(path, OPEN_FLAGS), "rb", buffering=0) as file:  # noqa: PTH123 - it has no O_NOFOLLOW
                _check_regular_file(self.name, os.fstat(file.fileno()))
                yield file
        except OSError as error:
            raise errors.BadInput(f"{self.name} cannot be read: {error.strerror}.", "unreadable") from None


def _check_regular_file(name: str, file_stat: os.stat_result) -> None:
    if not stat.S_ISREG(file_stat.st_mode):
        raise errors.BadInput(f"{name} is not a regular file.", "not_a_file")
    if file_stat.st_size > MAX_IMAGE_BYTES:
        raise errors.BadInput(
            f"{name} has {file_stat.st_size:,} bytes; the maximum is {MAX_IMAGE_BYTES:,}.", "too_large"
        )


def too_long_name(name: str) -> Unreadable:
    """Return the source of an image whose name no job can have."""
    size, limit = f"{len(name):,} characters", file_names.MAX_NAME_LENGTH
    if len(name) <= limit:
        size, limit = f"{len(name.encode()):,} bytes in UTF-8", file_names.MAX_NAME_BYTES
    return Unreadable(
        errors.BadInput(
            f"Its name has {size} ({name[:MAX_SHOWN_CHARACTERS]}…); the maximum is {limit:,}: name a folder further "
            "below, or shorten the names.",
            "name_too_long",
        )
    )


def from_files(files: Iterable[str | os.PathLike[str] | tuple[str, bytes]]) -> list[Image]:
    """Return images for paths, or (name, bytes).

    An image's name is the last part of its path; if two would have the same name, all names are the paths as given.

    Raises:
        errors.BadInput: a path is not a file, or a name occurs twice.
    """
    inputs = [file if isinstance(file, tuple) else os.fspath(file) for file in files]
    full_names = [file_names.storable_name(file[0] if isinstance(file, tuple) else file) for file in inputs]
    basenames = [
        full_name if isinstance(file, tuple) else Path(full_name).name
        for full_name, file in zip(full_names, inputs, strict=True)
    ]
    names = basenames if len(set(basenames)) == len(basenames) else full_names
    if len(set(names)) != len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise errors.BadInput(f"{duplicate} is named twice: names must be unique in a job.", "duplicate_name")
    return [_from_file(name, file) for name, file in zip(names, inputs, strict=True)]


def _from_file(name: str, file: str | tuple[str, bytes]) -> Image:
    if isinstance(file, tuple):
        return Image(name, len(file[1]), file[1])
    path = os.path.realpath(file)  # a link that is named explicitly is followed
    try:
        file_stat = os.stat(path)  # noqa: PTH116 - a string is all that is needed
    except OSError as error:
        raise errors.BadInput(f"{file} cannot be read: {error.strerror}.", "no_such_file") from None
    if stat.S_ISDIR(file_stat.st_mode):
        raise errors.BadInput(f"{file} is a folder: use `sortbelt enqueue {file}`.", "not_a_file")
    _check_regular_file(name, file_stat)
    return Image(name, file_stat.st_size, path)


def batches(images: Iterable[Image]) -> Iterator[Sequence[Image]]:
    """Group images into batches, each small enough for one request."""
    return grouped(images, lambda image: image.size, MAX_BATCH_IMAGES, MAX_BATCH_BYTES)


def grouped(items: Iterable[T], size_of: Callable[[T], int], max_count: int, max_bytes: int) -> Iterator[Sequence[T]]:
    """Group items in their order, with a maximum number and size in bytes; a larger item is alone in its group."""
    group: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if group and (len(group) == max_count or total + size > max_bytes):
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group
