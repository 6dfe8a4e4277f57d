"""Archives: the images in a .zip or .tar file, read as the files of a folder, in bounded memory.

The server imports this module too, for its sources: it needs the standard library only.
"""

import bz2
import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from sortbelt.files import file_rules

MAX_ENTRIES = 100_000
MAX_DIRECTORY_BYTES = 32_000_000  # the table of contents of a .zip file, which is read whole
# Photos are hardly smaller in an archive; a file that grows more than this is a bomb.
MAX_RATIO = 100
MIN_UNPACKED_BYTES = 256_000_000  # allowed at any ratio
MAX_HEADER_BYTES = 256_000  # of a .tar file; one that claims to be larger is a bomb
NESTED, UNSAFE_PATH, REPEATED, ENCRYPTED = "archive in an archive", "unsafe path", "repeated name", "encrypted"
UNREAD_COMPRESSION = "unsupported compression"
# The others are unpacked whole, whatever size the table of contents claims.
READ_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ZIP_IS_UTF8, ZIP_IS_ENCRYPTED = 0x800, 0x1
LOCAL_HEADER_BYTES, LOCAL_HEADER_SIGNATURE = 30, b"PK\3\4"


class ArchiveError(Exception):
    """The archive cannot be read, or not further; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        path: relative path; as the file name of a folder, it may have bytes that are not UTF-8.
        size: bytes, unpacked.
        skip_reason: why it cannot be an image; empty if it can.
    """

    path: str
    size: int
    skip_reason: str
    _read: Callable[[BinaryIO, int], bytes]

    def read(self, file: BinaryIO, max_bytes: int) -> bytes:
        """Return at most so many bytes of it, from the archive opened as a file.

        The members of a compressed .tar file are read in their order, before the next one is listed.

        Raises:
            ArchiveError: it is damaged.
        """
        return bytes(_guarded(lambda: self._read(file, max_bytes)))


def is_compressed_tar(path: str) -> bool:
    """Return whether the members of an archive can be read in their order only."""
    return path.lower().endswith(file_rules.TAR_SUFFIXES[1:])


def list_members(file: BinaryIO, path: str, size: int) -> Iterator[Member]:
    """Yield the files in an archive, in its order; its format is that of the suffix.

    Raises:
        ArchiveError: it is damaged, has too many entries, or unpacks to too many bytes.
    """
    list_entries = _list_zip if path.lower().endswith(file_rules.ZIP_SUFFIXES) else _list_tar
    max_bytes = MIN_UNPACKED_BYTES + MAX_RATIO * size
    entries = iter(_guarded(lambda: list_entries(file, path, max_bytes)))
    seen: set[str] = set()
    unpacked_bytes = 0
    while (member := _guarded(lambda: next(entries, None))) is not None:
        unpacked_bytes += member.size
        if unpacked_bytes > max_bytes:
            raise ArchiveError(f"it unpacks to more than {max_bytes:,} bytes")
        if len(seen) == MAX_ENTRIES:
            raise ArchiveError(f"it has more than {MAX_ENTRIES:,} files")
        # `tar czf photos.tgz .` begins each path with "./".
        member_path = "/".join(part for part in member.path.split("/") if part != ".")
        reason = member.skip_reason or _skip_reason(member_path, seen)
        seen.add(member_path)
        yield Member(member_path, member.size, reason, member._read)  # noqa: SLF001 (its own class)


def _skip_reason(path: str, seen: set[str]) -> str:
    if {"", ".."} & set(path.split("/")):
        return UNSAFE_PATH
    if file_rules.is_archive(path) or file_rules.is_unsupported_archive(path):
        return NESTED
    return REPEATED if path in seen else ""


def _guarded(function: Callable[[], Any]) -> Any:
    """Call a function of the standard library, which raises many kinds of errors for a damaged archive."""
    try:
        return function()
    except ArchiveError:
        raise
    except MemoryError:
        raise ArchiveError("it needs too much memory") from None
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        OverflowError,
        LookupError,
    ) as error:
        raise ArchiveError(f"it is damaged ({error})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"it is of a kind that is not read ({error})") from None
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk or the network, not of the archive
        raise ArchiveError(f"it is damaged ({error})") from None


def _list_zip(file: BinaryIO, _path: str, _max_bytes: int) -> Iterator[Member]:
    end_record: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # noqa: SLF001 (before the table is read)
    if end_record and end_record[5] > MAX_DIRECTORY_BYTES:
        raise ArchiveError(f"its table of contents has {end_record[5]:,} bytes")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    for entry in entries:
        if not entry.is_dir():
            yield Member(_zip_path(entry), entry.file_size, _zip_skip_reason(entry), _zip_reader(entry))


def _zip_path(entry: zipfile.ZipInfo) -> str:
    """Return the path of an entry; macOS writes UTF-8 without the flag that says so."""
    path = entry.filename
    if not entry.flag_bits & ZIP_IS_UTF8:
        try:
            path = entry.orig_filename.encode("cp437").decode()
        except UnicodeError:
            path = entry.filename
    return path.partition("\0")[0].lstrip("/")


def _zip_skip_reason(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        return file_rules.SYMBOLIC_LINK
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return file_rules.SPECIAL_FILE
    if entry.flag_bits & ZIP_IS_ENCRYPTED:
        return ENCRYPTED
    return "" if entry.compress_type in READ_COMPRESSIONS else UNREAD_COMPRESSION


def _zip_reader(entry: zipfile.ZipInfo) -> Callable[[BinaryIO, int], bytes]:
    def read(file: BinaryIO, max_bytes: int) -> bytes:
        # Without the table of contents, which `ZipFile` would read again for each member.
        file.seek(entry.header_offset)
        header = file.read(LOCAL_HEADER_BYTES)
        if header[:4] != LOCAL_HEADER_SIGNATURE or len(header) < LOCAL_HEADER_BYTES:
            raise zipfile.BadZipFile("the header of a file is missing")
        name_length, extra_length = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        file.seek(entry.header_offset + LOCAL_HEADER_BYTES + name_length + extra_length)
        with zipfile.ZipExtFile(file, "r", entry) as member:
            data = member.read(max_bytes)
        if len(data) < min(entry.file_size, max_bytes):
            raise zipfile.BadZipFile("a file is incomplete")
        return data

    return read


def _list_tar(file: BinaryIO, path: str, max_bytes: int) -> Iterator[Member]:
    unpacked: Any = file
    if path.lower().endswith((".gz", ".tgz")):
        unpacked = gzip.GzipFile(fileobj=file)
    elif path.lower().endswith((".bz2", ".tbz2")):
        unpacked = bz2.BZ2File(file)
    stream = _BoundedReader(unpacked, max_bytes)
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=_CheckedTarInfo) as archive:  # type: ignore[call-overload]
        while (entry := archive.next()) is not None:
            archive.members = []  # else it keeps all of them
            if not entry.isdir():
                reason = "" if entry.isreg() and entry.sparse is None else _tar_skip_reason(entry)
                read = _tar_reader(entry, None if unpacked is file else unpacked)
                yield Member(entry.name.lstrip("/"), entry.size, reason, read)


def _tar_skip_reason(entry: tarfile.TarInfo) -> str:
    return file_rules.SYMBOLIC_LINK if entry.issym() or entry.islnk() else file_rules.SPECIAL_FILE


def _tar_reader(entry: tarfile.TarInfo, unpacked: Any) -> Callable[[BinaryIO, int], bytes]:
    offset, size = entry.offset_data, entry.size

    def read(file: BinaryIO, max_bytes: int) -> bytes:
        source = unpacked or file
        source.seek(offset)
        data = source.read(min(size, max_bytes))
        if len(data) < min(size, max_bytes):
            raise tarfile.ReadError("a file is incomplete")
        return bytes(data)

    return read


class _CheckedTarInfo(tarfile.TarInfo):
    """A header of a .tar file: a damaged one is an error, which the library else takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """See `tarfile.TarInfo.fromtarfile`."""
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


class _BoundedReader:
    """An unpacked .tar file whose reads and whose length are limited: a header may claim any size."""

    def __init__(self, file: Any, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ArchiveError("a header in it is too large")
        if self.tell() + size > self._max_bytes:
            raise ArchiveError(f"it unpacks to more than {self._max_bytes:,} bytes")
        return bytes(self._file.read(size))

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int) -> int:
        if offset > self._max_bytes:
            raise ArchiveError(f"it unpacks to more than {self._max_bytes:,} bytes")
        return int(self._file.seek(offset))
