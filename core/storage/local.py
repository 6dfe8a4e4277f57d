"""A blob store in a local folder."""

import contextlib
import math
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from core import errors
from core.storage import base, fsync, local_renditions
from core.tracing import tracer

CHECK_BYTES = 65_536  # as a small image has: on a full disk even these cannot be written
RECENT_SECONDS = 60  # after that, the kernel has written the file to disk


class LocalBlobStore:
    """Blobs as files of one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._root_path = str(self.root)
        self._tmp_dir = self.root / "tmp"
        self._tmp_path = str(self._tmp_dir)
        self.renditions = local_renditions.LocalRenditions(self.root)
        self._filesystem_sync = fsync.FilesystemSync(self.root)

    @tracer.traced("blobs.put")
    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """See `BlobStore.put`."""
        try:  # written out: this is on the way of each submission
            # A blob just put by another may not be on disk yet either. A sum, because `any` would stop after the first.
            if sum(self._put_one(sha256, data) for sha256, data in blobs):
                self._filesystem_sync.flush()
        except OSError as error:
            raise errors.BlobsUnavailable(
                f"An image cannot be stored: {error.strerror}. Check the disk of SORTBELT_BLOB_STORE."
            ) from error

    def _put_one(self, sha256: str, data: bytes) -> bool:
        """Write a blob unless it exists. Return whether it is recent: then a flush must follow.

        After a power failure before the flush, a blob may be damaged; but no job refers to it yet, and the next `put`
        sees that its content differs.
        """
        path = f"{self._root_path}/{sha256[:2]}/{sha256}"
        if (recent := _is_recent(path, data)) is not None:
            return recent
        temp_path = f"{self._tmp_path}/{sha256}.{secrets.token_hex(4)}"
        try:
            _write_file(temp_path, data)
        except FileNotFoundError:  # the first blob of the store
            self._tmp_dir.mkdir(parents=True, exist_ok=True)
            _write_file(temp_path, data)
        try:
            _move_into_place(temp_path, path)
        except OSError:
            os.unlink(temp_path)
            raise
        return True

    def remove_temp_files(self) -> None:
        """See `BlobStore.remove_temp_files`."""
        for temp_file in self._tmp_dir.glob("*"):
            with contextlib.suppress(OSError):
                if temp_file.stat().st_mtime < time.time() - base.ORPHAN_TTL_SECONDS:
                    temp_file.unlink()

    def get(self, sha256: str) -> bytes:
        """See `BlobStore.get`."""
        with base.translate_os_errors("An image cannot be read"):
            try:
                return base.retry_missing(self.path(sha256).read_bytes)
            except FileNotFoundError:
                raise errors.BlobMissing from None

    def remove(self, digests: Iterable[str]) -> None:
        """See `BlobStore.remove`."""
        digests = list(digests)
        try:
            self.renditions.remove_of_images(digests)
        finally:
            base.remove_each(map(self.path, digests), self._remove_file, "An image cannot be removed")

    def _remove_file(self, path: Path) -> None:
        """Remove the file of a blob, if there is one that is not needed."""
        with contextlib.suppress(FileNotFoundError):
            if not _may_be_needed(path):
                self._move_aside_and_remove(path)

    def _move_aside_and_remove(self, path: Path) -> None:
        self._tmp_dir.mkdir(exist_ok=True)
        # Moved aside, and then checked again: a later `put` writes the blob anew, and one just before this has left a
        # recent mtime. While it is aside, readers do not see it: `base.ASIDE_SECONDS`.
        temp_path = path.rename(self._tmp_dir / f"{path.name}.{secrets.token_hex(4)}")
        if _may_be_needed(temp_path):
            temp_path.rename(path)
        else:
            temp_path.unlink()

    def list_old(self) -> Iterator[str]:
        """See `BlobStore.list_old`."""
        limit = time.time() - base.ORPHAN_TTL_SECONDS
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if len(entry.name) == 64 and _mtime(entry) < limit:
                        yield entry.name

    def mark_owner(self, installation_id: str) -> bool:
        """See `BlobStore.mark_owner`."""
        mark = self.root / base.MARK_NAME
        with base.translate_os_errors(f"{mark} cannot be used"):
            self.root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), mark.open("x", encoding="ascii") as file:
                file.write(installation_id)
            return mark.read_text(encoding="ascii") == installation_id

    def path(self, sha256: str) -> Path:
        """See `BlobStore.path`."""
        return self.root / sha256[:2] / sha256

    def disk(self) -> os.statvfs_result | None:
        """See `BlobStore.disk`."""
        try:
            return os.statvfs(self._root_path)
        except OSError:  # it does not exist yet
            return None

    def check(self) -> None:
        """See `BlobStore.check`."""
        remedy = "Correct its permissions, or SORTBELT_BLOB_STORE."
        with base.translate_os_errors(f"{self.root} is not writable", remedy):
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root, buffering=0) as file:
                file.write(bytes(CHECK_BYTES))


def _may_be_needed(path: Path) -> bool:
    """Return whether a blob was put within the last hour: a submission may be about to refer to it."""
    return time.time() - path.stat().st_mtime < base.ORPHAN_TTL_SECONDS


def _mtime(entry: os.DirEntry[str]) -> float:
    """Return when a file was written; for one that is gone, the end of time."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return math.inf


def _is_recent(path: str, data: bytes) -> bool | None:
    """Return whether a blob was written just now; None if it does not exist, is damaged, or cannot be read."""
    try:
        file_stat = os.stat(path)
        if file_stat.st_size != len(data) or Path(path).read_bytes() != data:
            return None
        if time.time() - file_stat.st_mtime > base.ORPHAN_TTL_SECONDS / 2:
            os.utime(path)  # else a purge might remove it now
    except OSError:
        return None
    return time.time() - file_stat.st_ctime < RECENT_SECONDS


def _write_file(temp_path: str, data: bytes) -> None:
    """Write a file completely, or leave none."""
    fd = os.open(temp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(fd, remaining) :]
    except OSError:
        os.unlink(temp_path)
        raise
    finally:
        os.close(fd)


def _move_into_place(temp_path: str, path: str) -> None:
    try:
        os.rename(temp_path, path)
    except FileNotFoundError:  # the first blob of its folder
        Path(path).parent.mkdir(exist_ok=True)
        os.rename(temp_path, path)
