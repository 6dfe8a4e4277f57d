"""Renditions as objects of a bucket."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from core.storage import renditions


class S3Renditions:
    """Renditions as objects, below a prefix for each image."""

    def __init__(self, store: Any, translate_errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._store = store
        self._translate_errors = translate_errors

    def get(self, sha256: str, kind: str) -> bytes | None:
        """See `RenditionStore.get`."""
        with self._translate_errors():
            try:
                return bytes(self._store.get(_path(sha256, kind)).bytes())
            except FileNotFoundError:
                return None

    def put(self, sha256: str, kind: str, data: bytes) -> None:
        """See `RenditionStore.put`."""
        with self._translate_errors():
            self._store.put(_path(sha256, kind), data)

    def list_all(self) -> Iterator[renditions.Rendition]:
        """See `RenditionStore.list_all`."""
        yield from self._list(renditions.FOLDER)

    def remove(self, stored: Iterable[renditions.Rendition]) -> None:
        """See `RenditionStore.remove`."""
        paths = [_path(rendition.sha256, rendition.kind) for rendition in stored]
        with self._translate_errors():
            if paths:
                self._store.delete(paths)

    def remove_of_images(self, digests: Iterable[str]) -> None:
        """See `RenditionStore.remove_of_images`."""
        for sha256 in digests:
            self.remove(self._list(f"{renditions.FOLDER}/{sha256}"))

    def _list(self, prefix: str) -> Iterator[renditions.Rendition]:
        with self._translate_errors():
            for page in self._store.list(prefix):
                for entry in page:
                    _, sha256, kind = entry["path"].rsplit("/", 2)
                    yield renditions.Rendition(sha256, kind, entry["size"], entry["last_modified"].timestamp())


def _path(sha256: str, kind: str) -> str:
    return f"{renditions.FOLDER}/{sha256}/{kind}"
