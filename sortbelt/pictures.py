"""A picture on its way out: its name in the job, where its bytes are, and how many travel together."""

import contextlib
import hashlib
import io
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sortbelt import errors

MOST_PICTURES = 16  # of one request: enough to make HTTP's own cost vanish
MOST_BYTES = 4_000_000  # of one request: little enough for several at once in the memory of both sides
MOST_PICTURE_BYTES = 60_000_000  # of one picture: what no server takes is not even read

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Picture:
    """A name, unique in its job, with bytes or the path of a regular file that holds them.

    Attributes:
        name: what the job calls it.
        size: in bytes.
        source: the bytes, or the file's path.
        mtime_ns: when the file was written last, in nanoseconds since 1970; 0 where there is no file.
        sha256: of the bytes, in hexadecimal; empty while nobody has read them.
    """

    name: str
    size: int
    source: str | bytes
    mtime_ns: int = 0
    sha256: str = ""

    def read(self) -> bytes:
        """The bytes; links are not followed, and nothing but a regular file is read.

        Raises:
            errors.BadInput: with a code that says why there are none.
        """
        if isinstance(self.source, bytes):
            return self.source
        with self._opened(self.source) as file:
            return file.read()

    def hashed(self) -> "Picture":
        """The picture with its digest, read in pieces, and with size and time as they were when it was opened.

        Raises:
            errors.BadInput: with a code that says why it cannot be read.
        """
        if isinstance(self.source, bytes):
            return replace(self, sha256=hashlib.sha256(self.source).hexdigest())
        with self._opened(self.source) as file:
            info = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return replace(self, size=info.st_size, mtime_ns=info.st_mtime_ns, sha256=digest)

    def loaded(self) -> "Picture":
        """The picture with its bytes in memory, and with the digest, size and time that belong to just these.

        Raises:
            errors.BadInput: with a code that says why there are none.
        """
        if isinstance(self.source, bytes):
            return self
        with self._opened(self.source) as file:
            info = os.fstat(file.fileno())
            data = file.read()
        same = (info.st_size, info.st_mtime_ns) == (self.size, self.mtime_ns)
        digest = self.sha256 if same and self.sha256 else hashlib.sha256(data).hexdigest()
        return Picture(self.name, len(data), data, info.st_mtime_ns, digest)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[io.FileIO]:
        try:
            # Without O_NONBLOCK, opening a pipe that took the file's place would hang.
            with open(os.open(path, _FLAGS), "rb", buffering=0) as file:  # noqa: PTH123 - it has no O_NOFOLLOW
                _check(self.name, os.fstat(file.fileno()))
                yield file
        except OSError as error:
            raise errors.BadInput(f"{self.name} cannot be read: {error.strerror}.", "unreadable") from None


def _check(name: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise errors.BadInput(f"{name} is no regular file.", "not_a_file")
    if info.st_size > MOST_PICTURE_BYTES:
        raise errors.BadInput(f"{name} has {info.st_size:,} bytes, more than any server takes.", "too_large")


def named(files: Iterable[str | os.PathLike[str] | tuple[str, bytes]]) -> list[Picture]:
    """The pictures that someone named one by one: paths, or (name, bytes).

    A file is called by its last part, or, where two would get one name, all of them by the paths as given.

    Raises:
        errors.BadInput: a path is no file, or a name occurs twice.
    """
    given = [file if isinstance(file, tuple) else os.fspath(file) for file in files]
    short = [file[0] if isinstance(file, tuple) else Path(file).name for file in given]
    names = short if len(set(short)) == len(short) else [f[0] if isinstance(f, tuple) else f for f in given]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise errors.BadInput(f"{twice} is named twice; a name is unique in its job.", "duplicate_name")
    return [_picture(name, file) for name, file in zip(names, given, strict=True)]


def _picture(name: str, file: str | tuple[str, bytes]) -> Picture:
    if isinstance(file, tuple):
        return Picture(wire_name(name), len(file[1]), file[1])
    path = os.path.realpath(file)  # whoever names a link means what it leads to
    try:
        info = os.stat(path)  # noqa: PTH116 - a string is all that is needed
    except OSError as error:
        raise errors.BadInput(f"{file} cannot be read: {error.strerror}.", "no_such_file") from None
    if stat.S_ISDIR(info.st_mode):
        raise errors.BadInput(f"{file} is a folder: `sortbelt enqueue {file}` takes folders.", "not_a_file")
    _check(name, info)
    return Picture(wire_name(name), info.st_size, path)


def wire_name(name: str) -> str:
    """A name as text that can be sent and shown: what is no UTF-8, or steers terminals, becomes backslash escapes."""
    text = name.encode("utf-8", "backslashreplace").decode()
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) == "Cc" else c for c in text)


def batches(pictures: Iterable[Picture]) -> Iterator[Sequence[Picture]]:
    """The pictures in groups, each small enough for one request."""
    group: list[Picture] = []
    size = 0
    for picture in pictures:
        if group and (len(group) == MOST_PICTURES or size + picture.size > MOST_BYTES):
            yield group
            group, size = [], 0
        group.append(picture)
        size += picture.size
    if group:
        yield group
