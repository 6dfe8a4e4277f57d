"""A blob store in an S3 bucket."""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from core import errors
from core.storage import base, s3_renditions
from core.tracing import tracer


def open_s3_store(url: str) -> Any:
    """Create a client for `s3://BUCKET/PREFIX` whose retries take seconds in total, not minutes."""
    from obstore import store  # noqa: PLC0415 (imported only if a bucket is used)

    options: Any = {"client_options": {"timeout": "10s", "connect_timeout": "2s", "allow_http": True}}
    retries: Any = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}}
    return store.S3Store.from_url(url, **options, **retries)


class S3BlobStore:
    """Blobs as objects of a bucket. The endpoint and the credentials come from the `AWS_…` variables."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = open_s3_store(url)
        self.renditions = s3_renditions.S3Renditions(self._store, self._translate_errors)

    @tracer.traced("blobs.put")
    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """See `BlobStore.put`."""
        for sha256, data in blobs:
            with self._translate_errors():
                self._store.put(sha256, data)

    def get(self, sha256: str) -> bytes:
        """See `BlobStore.get`."""
        with self._translate_errors():
            try:
                return bytes(self._store.get(sha256).bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise errors.BlobMissing from None

    def remove(self, digests: Iterable[str]) -> None:
        """See `BlobStore.remove`."""
        digests = list(digests)
        self.renditions.remove_of_images(digests)
        with self._translate_errors():
            for sha256 in digests:
                # One by one: a blob that is uploaded again while others are checked has to stay.
                if self._is_old(sha256):
                    self._store.delete(sha256)

    def list_old(self) -> Iterator[str]:
        """See `BlobStore.list_old`."""
        limit = datetime.now(UTC) - timedelta(seconds=base.ORPHAN_TTL_SECONDS)
        with self._translate_errors():
            for page in self._store.list():
                for blob in page:
                    if len(blob["path"]) == 64 and blob["last_modified"] < limit:
                        yield blob["path"]

    def mark_owner(self, installation_id: str) -> bool:
        """See `BlobStore.mark_owner`."""
        with self._translate_errors():
            try:
                self._store.head(base.MARK_NAME)
            except FileNotFoundError:
                self._store.put(base.MARK_NAME, installation_id.encode())
            return bytes(self._store.get(base.MARK_NAME).bytes()).decode() == installation_id

    def _is_old(self, sha256: str) -> bool:
        try:
            last_modified: datetime = self._store.head(sha256)["last_modified"]
        except FileNotFoundError:
            return False
        return (datetime.now(UTC) - last_modified).total_seconds() > base.ORPHAN_TTL_SECONDS

    def path(self, sha256: str) -> None:  # noqa: ARG002 (a bucket has no files)
        """See `BlobStore.path`."""
        return

    def disk(self) -> None:
        """See `BlobStore.disk`; a bucket does not fill up."""
        return

    def remove_temp_files(self) -> None:
        """See `BlobStore.remove_temp_files`; a bucket shows no partial objects."""

    def check(self) -> None:
        """See `BlobStore.check`."""
        with self._translate_errors():
            self._store.put("check", b"1")

    @contextlib.contextmanager
    def _translate_errors(self) -> Any:
        from obstore import exceptions  # noqa: PLC0415 (as above)

        try:
            yield
        except (exceptions.BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise errors.BlobsUnavailable(f"The blob store {self.url} does not answer: {reason}") from error
