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
        self._folder = str(self.root)
        self._halves = self.root / "halves"
        self._disk = disk.Disk(self.root)

    @tracing.traced("blobs.put")
    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """See `Blobs.put`."""
        try:
            # What another has just put may not have reached the disk yet either. A sum, for `any` would keep but one.
            if sum(self._keep(sha256, data) for sha256, data in blobs):
                self._disk.flush()
        except OSError as error:
            raise errors.BlobsUnavailable(f"A picture cannot be stored: {error.strerror}.") from error

    def _keep(self, sha256: str, data: bytes) -> bool:
        """Write a blob, unless it is there. Returns whether it is young: then a flush is to follow.

        What a power cut before the flush leaves under a digest may be damaged, but no order counts on it yet, and who
        puts it again sees that it differs.
        """
        path = f"{self._folder}/{sha256[:2]}/{sha256}"
        if (young := _is_young(path, data)) is not None:
            return young
        half = f"{self._folder}/halves/{sha256}.{secrets.token_hex(4)}"
        try:
            _write(half, data)
        except FileNotFoundError:  # the first ever
            self._halves.mkdir(parents=True, exist_ok=True)
            _write(half, data)
        try:
            _rename(half, path)
        except OSError:
            os.unlink(half)
            raise
        return True

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


def _is_young(path: str, data: bytes) -> bool | None:
    """Whether a blob was written just now; None if it is not there, or is damaged."""
    try:
        seen = os.stat(path)
        if seen.st_size != len(data) or Path(path).read_bytes() != data:
            return None
        if time.time() - seen.st_mtime > HALF_SECONDS / 2:
            os.utime(path)  # so that it is not removed now
    except FileNotFoundError:
        return None
    return time.time() - seen.st_ctime < YOUNG_SECONDS


def _write(half: str, data: bytes) -> None:
    """Write a file whole, or leave none."""
    file = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        os.unlink(half)
        raise
    finally:
        os.close(file)


def _rename(half: str, path: str) -> None:
    try:
        os.rename(half, path)
    except FileNotFoundError:  # the first of its folder
        Path(path).parent.mkdir(exist_ok=True)
        os.rename(half, path)


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
