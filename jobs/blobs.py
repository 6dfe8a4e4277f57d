"""Picture bytes, kept under their SHA-256: in a local folder, or in any store that speaks S3."""

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from jobs import disk, errors, tracing

HALF_SECONDS = 3600  # nobody writes one picture for so long, nor is about to say that it belongs to a job
YOUNG_SECONDS = 60  # any longer, and a file has reached the disk by itself


class Blobs(Protocol):
    """A store of immutable bytes, each under the SHA-256 of its content."""

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """Keep bytes for good: when this returns, a power cut does not lose them.

        Raises:
            errors.BlobsUnavailable: the store is full or does not answer; nothing half-written is visible.
        """

    def get(self, sha256: str) -> bytes:
        """The bytes.

        Raises:
            errors.BlobMissing: they are not there.
            errors.BlobsUnavailable: the store does not answer.
        """

    def remove(self, digests: Iterable[str]) -> None:
        """Remove bytes; what is not there is passed over, and what somebody has put within the last hour.

        They may be about to commit an order that counts on it.

        Raises:
            errors.BlobsUnavailable: the store does not answer.
        """

    def path(self, sha256: str) -> Path | None:
        """Where the bytes lie as a local file, if they do: a reader may then open it itself."""

    def sweep(self) -> None:
        """Remove what a killed writer has left half-written."""

    def check(self) -> None:
        """See that the store can be written.

        Raises:
            errors.BlobsUnavailable: it cannot.
        """


def open_blobs(where: str) -> Blobs:
    """The store at a folder or at `s3://BUCKET/PREFIX`."""
    return Bucket(where) if where.startswith("s3://") else Folder(Path(where))


def open_bucket(url: str) -> Any:
    """A client of what lies at `s3://BUCKET/PREFIX`, whose tries together take seconds, not minutes."""
    from obstore import store  # noqa: PLC0415 (only those who use a bucket pay for its library)

    options: Any = {"client_options": {"timeout": "10s", "connect_timeout": "2s", "allow_http": True}}
    retries: Any = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}}
    return store.S3Store.from_url(url, **options, **retries)


class Folder:
    """Blobs as files of one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._halves = self.root / "halves"
        self._disk = disk.Disk(self.root)

    @tracing.traced("blobs.put")
    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """See `Blobs.put`."""
        halves: dict[Path, Path] = {}
        try:
            known = [self._keep(self.path(sha256), data, halves) for sha256, data in blobs]
            if halves:
                self._disk.flush()
            renamed = list(halves)
            for path in renamed:
                _rename(halves.pop(path), path)
            # What another request has just renamed may not have reached the disk yet either.
            if renamed or any(known):
                self._disk.flush()
        except OSError as error:
            raise errors.BlobsUnavailable(f"A picture cannot be stored: {error.strerror}.") from error
        finally:
            for half in halves.values():
                half.unlink(missing_ok=True)

    def _keep(self, path: Path, data: bytes, halves: dict[Path, Path]) -> bool:
        """Write beside, to be renamed: what is seen under its digest is whole. Returns whether it was young already."""
        if path in halves:
            return False
        with contextlib.suppress(FileNotFoundError):
            seen = path.stat()
            if seen.st_size == len(data):  # else somebody has damaged it, and it is written anew
                if time.time() - seen.st_mtime > HALF_SECONDS / 2:
                    os.utime(path)  # so that it is not removed now
                return time.time() - seen.st_ctime < YOUNG_SECONDS
        halves[path] = half = self._halves / f"{path.name}.{secrets.token_hex(4)}"
        try:
            half.write_bytes(data)
        except FileNotFoundError:  # the first ever
            self._halves.mkdir(parents=True, exist_ok=True)
            half.write_bytes(data)
        return False

    def sweep(self) -> None:
        """See `Blobs.sweep`."""
        for half in self._halves.glob("*"):
            with contextlib.suppress(OSError):
                if half.stat().st_mtime < time.time() - HALF_SECONDS:
                    half.unlink()

    def get(self, sha256: str) -> bytes:
        """See `Blobs.get`."""
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise errors.BlobMissing from None
        except OSError as error:
            raise errors.BlobsUnavailable(f"A picture cannot be read: {error.strerror}.") from error

    def remove(self, digests: Iterable[str]) -> None:
        """See `Blobs.remove`."""
        try:
            for sha256 in digests:
                with contextlib.suppress(FileNotFoundError):
                    self._remove(self.path(sha256))
        except OSError as error:
            raise errors.BlobsUnavailable(f"A picture cannot be removed: {error.strerror}.") from error

    def _remove(self, path: Path) -> None:
        self._halves.mkdir(exist_ok=True)
        # Aside first: who puts it from now on writes it anew, and who did before has left the trace that is looked for.
        aside = path.rename(self._halves / f"{path.name}.{secrets.token_hex(4)}")
        if time.time() - aside.stat().st_mtime < HALF_SECONDS:
            aside.rename(path)
        else:
            aside.unlink()

    def path(self, sha256: str) -> Path:
        """See `Blobs.path`."""
        return self.root / sha256[:2] / sha256

    def check(self) -> None:
        """See `Blobs.check`."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise errors.BlobsUnavailable(f"{self.root} cannot be written: {error.strerror}.") from error


def _rename(half: Path, path: Path) -> None:
    try:
        half.rename(path)
    except FileNotFoundError:  # the first of its folder
        path.parent.mkdir(exist_ok=True)
        half.rename(path)


class Bucket:
    """Blobs as objects of a bucket. The endpoint and the credentials come from the `AWS_…` variables."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = open_bucket(url)

    @tracing.traced("blobs.put")
    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """See `Blobs.put`."""
        for sha256, data in blobs:
            with self._named():
                self._store.put(sha256, data)

    def get(self, sha256: str) -> bytes:
        """See `Blobs.get`."""
        with self._named():
            try:
                return bytes(self._store.get(sha256).bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise errors.BlobMissing from None

    def remove(self, digests: Iterable[str]) -> None:
        """See `Blobs.remove`."""
        with self._named():
            self._store.delete([sha256 for sha256 in digests if self._is_old(sha256)])

    def _is_old(self, sha256: str) -> bool:
        try:
            written: datetime = self._store.head(sha256)["last_modified"]
        except FileNotFoundError:
            return False
        return (datetime.now(UTC) - written).total_seconds() > HALF_SECONDS

    def path(self, sha256: str) -> None:  # noqa: ARG002 (a bucket has no files)
        """See `Blobs.path`."""
        return

    def sweep(self) -> None:
        """See `Blobs.sweep`; a bucket shows nothing half-written."""

    def check(self) -> None:
        """See `Blobs.check`."""
        with self._named():
            self._store.put("check", b"")

    @contextlib.contextmanager
    def _named(self) -> Any:
        from obstore import exceptions  # noqa: PLC0415 (as above)

        try:
            yield
        except (exceptions.BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise errors.BlobsUnavailable(f"The store {self.url} does not answer: {reason}") from error
