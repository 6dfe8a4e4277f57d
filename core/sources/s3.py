"""A source in an S3 bucket."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from core import errors, specs
from core.sources import base, source_archives
from core.storage import s3 as s3_storage
from sortbelt.files import file_names
from sortbelt.files.file_rules import FileRules, is_archive

READ_AHEAD_BYTES = 1_000_000  # of an archive, per request


class S3Source:
    """A prefix of a bucket. The endpoint and the credentials come from the `AWS_…` variables."""

    concurrency = 8

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.address = url
        self._client: Any = None

    def walk(
        self, prefix: str, rules: FileRules, after: str | None = None, *, max_bytes: int
    ) -> Iterator[base.SourceEntry]:
        """See `Source.walk`."""
        folder, last_path = file_names.unescape_name(prefix), file_names.unescape_name(after or "")
        archive_path, inner_path = _split_at_archive(last_path, folder)
        last_skipped = rules.find_skipped(last_path, folder)[0]
        if inner_path:
            yield from self._list_archive(archive_path, rules, inner_path, max_bytes)
        for path, size in self._list_objects(folder, archive_path or last_path):
            part, reason = rules.find_skipped(path, folder)
            if not reason and is_archive(path):
                yield from self._list_archive(path, rules, "", max_bytes)
            elif not reason or part != last_skipped:
                yield _to_entry(part or path, size, reason)
            last_skipped = part

    def _list_objects(self, folder: str, after: str) -> Iterator[tuple[str, int]]:
        """Yield the key of each object, and its size in bytes."""
        with self._translate_errors():
            pages = self._store.list(prefix=folder or None, offset=after or None, chunk_size=base.LISTING_CHUNK)
        while True:
            with self._translate_errors():
                page = next(pages, None)
            if page is None:
                return
            yield from ((entry["path"], entry["size"]) for entry in page)

    def _list_archive(self, path: str, rules: FileRules, after: str, max_bytes: int) -> Iterator[base.SourceEntry]:
        with self._translate_errors():
            try:
                reader = _ObjectReader(self._store, path)
            except FileNotFoundError:
                return  # it has vanished
            file = io.BufferedReader(reader, READ_AHEAD_BYTES)
            archive = source_archives.OpenArchive(file, path, reader.size)
            yield from source_archives.list_images(archive, rules, after, max_bytes=max_bytes)

    def check(self) -> None:
        """See `Source.check`."""
        with contextlib.suppress(errors.SourcePathNotFound), self._translate_errors():  # one key is not a path
            next(self._store.list(chunk_size=1), None)

    def read(self, path: str, max_bytes: int) -> bytes:
        """See `Source.read`."""
        with self._translate_errors():
            try:
                key = file_names.unescape_name(path)
                response = self._store.get(key)
                if response.meta["size"] <= max_bytes:
                    return bytes(response.bytes())
                return bytes(self._store.get_range(key, start=0, end=max_bytes + 1))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise errors.BlobMissing("The image is not in its source any more.") from None

    @property
    def _store(self) -> Any:
        if self._client is None:
            self._client = s3_storage.open_s3_store(self.address)
        return self._client

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        from obstore import exceptions  # noqa: PLC0415 (imported only if a bucket is used)

        try:
            yield
        except exceptions.InvalidPathError as error:
            # The prefix of the source is not shown to callers.
            root_prefix = self.address.removeprefix(specs.S3_SCHEME).partition("/")[2]
            reason = str(error).partition("\n")[0].replace(f"{root_prefix}/", "" if root_prefix else "/")
            raise errors.SourcePathNotFound(
                f"{self.name} cannot be listed, because a key is not a valid path: {reason}. Rename that object."
            ) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise errors.SourceAccessDenied(self.name, str(error).partition("\n")[0]) from error
        except (exceptions.BaseError, OSError) as error:
            raise errors.SourceUnavailable(self.name, str(error).partition("\n")[0]) from error


class _ObjectReader(io.RawIOBase):
    """An object of a bucket as a file that is read in ranges."""

    def __init__(self, store: Any, key: str) -> None:
        super().__init__()
        self._store, self._key = store, key
        self.size = int(store.head(key)["size"])
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self.size)
        if end <= self._position:
            return 0
        data = bytes(self._store.get_range(self._key, start=self._position, end=end))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _split_at_archive(path: str, base_path: str) -> tuple[str, str]:
    """Return the archive that a path leads into, and the path in it; both empty if it leads into none."""
    end = path.find("/", len(base_path) + 1 if base_path else 0)
    while end != -1:
        if is_archive(path[:end]):
            return path[:end], path[end + 1 :]
        end = path.find("/", end + 1)
    return "", ""


def _to_entry(path: str, size: int, reason: str) -> base.SourceEntry:
    name = file_names.escape_name(path)
    if not reason and file_names.is_too_long(name):
        reason = source_archives.NAME_TOO_LONG
    return base.SourceEntry(name, size, reason)
