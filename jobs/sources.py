"""Sources: folders of the server and prefixes of buckets whose pictures may be classified where they lie, by reference.

Only what the settings list is a source. Nothing of it is ever written or removed; no link is followed, and nothing but
a regular file is read, whatever becomes of it between two looks.
"""

import contextlib
import errno
import functools
import heapq
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from jobs import blobs, errors
from jobs.choice import Choice

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
BUCKET = "s3://"
MOST_PATH = 1024
MOST_DEPTH = 64
AT_ONCE = 10_000  # names of one folder in memory
# A disk, a network or this process fails, not the file.
TRANSIENT = {errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT}
TRANSIENT |= {errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO}
STEPS = {"", ".", ".."}  # that no path in a source has
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = _FOLDER | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a source holds, and whether it is chosen."""

    path: str
    """In the source; empty for what has a name that no picture can have."""
    size: int
    chosen: bool = True


class Source(Protocol):
    """One source, under the name by which callers know it."""

    name: str
    address: str
    """Where it is; for admins."""
    hands: int
    """How many are to read in it at once: the more, the longer each of its files is waited for."""

    def walk(self, prefix: str, choice: Choice, after: str | None = None) -> Iterator[Found]:
        """What lies below a prefix, always in one order, from beyond the path `after`; also what is left alone.

        Raises:
            errors.NotThere: there is no such prefix, or what it holds cannot be listed.
            errors.SourceUnavailable: the source does not answer.
        """

    def read(self, path: str, most_bytes: int) -> bytes:
        """The bytes of a file; of one that has more than `most_bytes` so many and one more.

        Raises:
            errors.BlobMissing: there is no such file, or it is none that may be read.
            errors.SourceRefuses: the source refuses: this one, or everything.
            errors.SourceUnavailable: the source does not answer.
        """


class Folder:
    """A folder of this machine."""

    hands = 2

    def __init__(self, name: str, root: str) -> None:
        self.name = name
        self.address = root

    def walk(self, prefix: str, choice: Choice, after: str | None = None) -> Iterator[Found]:
        """See `Source.walk`."""
        parts = prefix.split("/") if prefix else []
        try:
            os.close(self._open(parts))
        except OSError as error:
            self._unless_transient(error)
            raise errors.NotThere(f"{self.name} has no folder {prefix!r}: {error.strerror}.") from None
        beyond = after.split("/")[len(parts) :] if after is not None else []
        return self._below(parts, choice, beyond)

    def _below(self, parts: Sequence[str], choice: Choice, after: Sequence[str]) -> Iterator[Found]:
        """What a folder holds, from beyond a path in it."""
        first, rest = (after[0], after[1:]) if after else ("", [])
        for name, info in self._entries(parts, first, inclusive=bool(rest)):
            inner, deeper = [*parts, name], rest if name == first else []
            path = "/".join(inner)
            if not _is_plain(path):
                yield Found("", info.st_size, chosen=False)
            elif not stat.S_ISDIR(info.st_mode):
                yield Found(path, info.st_size, stat.S_ISREG(info.st_mode) and choice.takes(path))
            elif choice.enters(path) and len(inner) < MOST_DEPTH:
                yield from self._below(inner, choice, deeper)

    def _entries(self, parts: Sequence[str], after: str, *, inclusive: bool) -> Iterator[tuple[str, os.stat_result]]:
        """The entries of a folder in the order of their names; none is kept open, for they may lie deep."""
        while True:
            try:
                some = self._some(parts, lambda n: n > after or (inclusive and n == after))  # noqa: B023 (used at once)
            except OSError as error:
                self._unless_transient(error)
                return  # it has vanished, or is not ours to read
            yield from ((name, info) for name, info in some if info is not None)
            if len(some) < AT_ONCE:
                return
            after, inclusive = some[-1][0], False

    def _some(self, parts: Sequence[str], wanted: Callable[[str], bool]) -> list[tuple[str, os.stat_result | None]]:
        """The first names that are wanted; None beside what has vanished."""
        folder = self._open(parts)
        try:
            with os.scandir(folder) as entries:
                names = heapq.nsmallest(AT_ONCE, (entry.name for entry in entries if wanted(entry.name)))
            return [(name, _stat(name, folder)) for name in names]
        finally:
            os.close(folder)

    def read(self, path: str, most_bytes: int) -> bytes:
        """See `Source.read`."""
        *parts, name = path.split("/")
        if STEPS & {*parts, name}:
            raise errors.BlobMissing("The picture's path leads out of its source.")
        try:
            folder = self._open(parts)
            try:
                file = os.open(name, _FILE, dir_fd=folder)
            finally:
                os.close(folder)
            with os.fdopen(file, "rb") as opened:
                info = os.fstat(file)
                if not stat.S_ISREG(info.st_mode):
                    raise errors.BlobMissing("What has the picture's name in its source is no regular file.")
                return opened.read(min(info.st_size, most_bytes) + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise errors.BlobMissing("The picture is gone from its source.") from None
        except OSError as error:
            self._unless_transient(error)
            raise errors.BlobMissing(f"The picture cannot be read in its source: {error.strerror}.") from None

    def _open(self, parts: Sequence[str]) -> int:
        """A folder, step by step from the root, so that no part of the way is a link."""
        try:
            folder = os.open(self.address, _FOLDER)
        except OSError as error:
            raise errors.SourceUnavailable(self.name, str(error.strerror)) from error
        for part in parts:
            try:
                deeper = os.open(part, _INSIDE, dir_fd=folder)
            finally:
                os.close(folder)
            folder = deeper
        return folder

    def _unless_transient(self, error: OSError) -> None:
        if error.errno in TRANSIENT:
            raise errors.SourceUnavailable(self.name, str(error.strerror)) from error


class Bucket:
    """A prefix of a bucket. The endpoint and the credentials come from the `AWS_…` variables."""

    hands = 8

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.address = url
        self._opened: Any = None

    def walk(self, prefix: str, choice: Choice, after: str | None = None) -> Iterator[Found]:
        """See `Source.walk`."""
        with self._named():
            listed = self._store.list(prefix=prefix or None, offset=after, chunk_size=AT_ONCE)
        while True:
            with self._named():
                some = next(listed, None)
            if some is None:
                return
            for one in some:
                path = one["path"]
                yield Found(path, one["size"], choice.takes(path)) if _is_plain(path) else Found("", 0, chosen=False)

    def read(self, path: str, most_bytes: int) -> bytes:
        """See `Source.read`."""
        with self._named():
            try:
                answer = self._store.get(path)
                if answer.meta["size"] <= most_bytes:
                    return bytes(answer.bytes())
                return bytes(self._store.get_range(path, start=0, end=most_bytes + 1))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise errors.BlobMissing("The picture is gone from its source.") from None

    @property
    def _store(self) -> Any:
        if self._opened is None:
            self._opened = blobs.open_bucket(self.address)
        return self._opened

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        from obstore import exceptions  # noqa: PLC0415 (only those who use a bucket pay for its library)

        try:
            yield
        except exceptions.InvalidPathError as error:
            # Where in the bucket the source begins is not for callers.
            start = self.address.removeprefix(BUCKET).partition("/")[2]
            reason = str(error).partition("\n")[0].replace(f"{start}/", "" if start else "/")
            raise errors.NotThere(f"{self.name} cannot be listed, for one of its keys is no path: {reason}") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise errors.SourceRefuses(self.name, str(error).partition("\n")[0]) from error
        except (exceptions.BaseError, OSError) as error:
            raise errors.SourceUnavailable(self.name, str(error).partition("\n")[0]) from error


class Sources:
    """The sources that there are, by their names."""

    def __init__(self, listed: Mapping[str, Source]) -> None:
        self._listed = dict(listed)

    @classmethod
    def read(cls, listed: str) -> Self:
        """The sources in a list between commas, each `NAME=/FOLDER` or `NAME=s3://BUCKET/PREFIX`.

        Raises:
            ValueError: something in it is none.
        """
        found: dict[str, Source] = {}
        for one in filter(None, (word.strip() for word in listed.split(","))):
            name, given, address = one.partition("=")
            if not given or NAME.fullmatch(name) is None:
                raise ValueError(f"{one!r} is not NAME=/FOLDER or NAME=s3://BUCKET/PREFIX, with a name of a-z0-9._-")
            if name in found:
                raise ValueError(f"the source {name!r} is named twice")
            found[name] = _source(name, address.rstrip("/"))
        return cls(found)

    def __iter__(self) -> Iterator[Source]:
        return iter(self._listed.values())

    @property
    def names(self) -> list[str]:
        """Their names."""
        return list(self._listed)

    def get(self, name: str) -> Source | None:
        """The source of a name."""
        return self._listed.get(name)

    def reader(self, name: str | None, path: str | None, most_bytes: int) -> Callable[[], bytes] | None:
        """What reads a picture that lies in a source; None for one that lies in none.

        Of bytes that are too many there comes one more than is wanted: their digest tells.
        """
        if name is None or path is None:
            return None
        source = self.get(name)
        return _nothing if source is None else functools.partial(source.read, path, most_bytes)

    def find(self, wanted: str, prefix: str) -> tuple[str, str]:
        """The name of a source, and a prefix in it; `wanted` is a name, or the address of something in a bucket.

        Raises:
            errors.UnknownSource: it is not on the list.
            errors.BadParameter: the prefix leads nowhere.
        """
        if wanted in self._listed:
            return wanted, _prefix(prefix)
        for source in self:
            if wanted.startswith(BUCKET) and f"{wanted}/".startswith(f"{source.address}/"):
                return source.name, _prefix("/".join(filter(None, (wanted[len(source.address) + 1 :], prefix))))
        raise errors.UnknownSource(f"There is no source {wanted[:100]!r} on this server's list.")


NONE = Sources({})


def _nothing() -> bytes:
    raise errors.BlobMissing("The picture's source is not on this worker's list.")


def _stat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _source(name: str, address: str) -> Source:
    if address.startswith(BUCKET):
        if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[^/]+)*", address) is None:
            raise ValueError(f"{name}={address} is not s3://BUCKET or s3://BUCKET/PREFIX")
        if STEPS & set(address.removeprefix(BUCKET).split("/")):
            raise ValueError(f"{name}={address} must not have . or .. in its path")
        return Bucket(name, address)
    if not address.startswith("/"):
        raise ValueError(f"{name}={address} must be the path of a folder from the root, but not that itself, or s3://…")
    return Folder(name, os.path.normpath(address))


def _prefix(given: str) -> str:
    if given.startswith("/"):
        raise errors.BadParameter(
            f"{given[:100]!r} is no prefix in a source: it begins with /, but is to be relative, like 2026/january."
        )
    path = given.rstrip("/")
    if path and (not _is_plain(path) or STEPS & set(path.split("/"))):
        raise errors.BadParameter(f"{given[:100]!r} is no prefix in a source: it must be like 2026/january.")
    return path


def _is_plain(path: str) -> bool:
    """Whether a path can be a picture's name: text without control characters, and not endless."""
    return len(path) <= MOST_PATH and not any(unicodedata.category(x) in ("Cc", "Cs") for x in path)


def overlap(one: str, other: str) -> bool:
    """Whether one of two places, folders or buckets, lies in the other."""
    first, second = (f"{p if p.startswith(BUCKET) else Path(p).absolute()}".rstrip("/") + "/" for p in (one, other))
    return first.startswith(second) or second.startswith(first)
