"""Renditions as files of a folder."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from core.storage import base, renditions

REMOVAL_FAILURE = "A thumbnail cannot be removed"


class LocalRenditions:
    """Renditions as files: a folder per image, named by its SHA-256."""

    def __init__(self, root: Path) -> None:
        self._folder = root / renditions.FOLDER
        self._tmp_dir = root / "tmp"

    def get(self, sha256: str, kind: str) -> bytes | None:
        """See `RenditionStore.get`."""
        with base.translate_os_errors("A thumbnail cannot be read"), contextlib.suppress(FileNotFoundError):
            return self._path(sha256, kind).read_bytes()
        return None

    def put(self, sha256: str, kind: str, data: bytes) -> None:
        """See `RenditionStore.put`."""
        path = self._path(sha256, kind)
        temp_path = self._tmp_dir / f"{sha256}.{kind}.{secrets.token_hex(4)}"
        with base.translate_os_errors("A thumbnail cannot be stored"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._tmp_dir.mkdir(exist_ok=True)
            try:
                temp_path.write_bytes(data)
                temp_path.rename(path)
            except OSError:
                temp_path.unlink(missing_ok=True)
                raise

    def list_all(self) -> Iterator[renditions.Rendition]:
        """See `RenditionStore.list_all`."""
        for folder in self._folder.glob("??/*"):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    file_stat = entry.stat(follow_symlinks=False)
                    yield renditions.Rendition(folder.name, entry.name, file_stat.st_size, file_stat.st_mtime)

    def remove(self, stored: Iterable[renditions.Rendition]) -> None:
        """See `RenditionStore.remove`."""
        base.remove_each(stored, self._remove_file, REMOVAL_FAILURE)

    def _remove_file(self, rendition: renditions.Rendition) -> None:
        path = self._path(rendition.sha256, rendition.kind)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another rendition is in it
            path.parent.rmdir()

    def remove_of_images(self, digests: Iterable[str]) -> None:
        """See `RenditionStore.remove_of_images`."""
        base.remove_each(digests, self._remove_folder, REMOVAL_FAILURE)

    def _remove_folder(self, sha256: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder / sha256[:2] / sha256)

    def _path(self, sha256: str, kind: str) -> Path:
        return self._folder / sha256[:2] / sha256 / kind
