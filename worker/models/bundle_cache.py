"""Bundle cache: the registry's bundles as local folders, named by content digest, each complete or absent."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from core import errors
from core.storage import base
from model.packaging import atomic_files, manifest

EVICT_AFTER_SECONDS = 7 * 86_400


class BundleCache:
    """Fetch bundles from the blob store when they are first needed."""

    def __init__(self, root: Path, store: base.BlobStore) -> None:
        self._root = root
        self._store = store

    def path_for(self, files: Mapping[str, str]) -> Path:
        """Return the folder with exactly these files, {name: SHA-256}; fetch it if it is absent or altered.

        Raises:
            manifest.InvalidBundle: a file is missing from the blob store, or altered.
            errors.ServiceUnavailable: the blob store does not answer, or the cache cannot be written.
        """
        folder = self._root / hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        try:
            if not _has_files(folder, files):
                self._fetch(files, folder)
            os.utime(folder)  # for eviction
        except errors.BlobMissing:
            raise manifest.InvalidBundle(
                "A file of the bundle is missing from the blob store: add the bundle again."
            ) from None
        except OSError as error:
            raise errors.ServiceUnavailable(f"The model cache {folder} cannot be written: {error.strerror}.") from error
        return folder

    def _fetch(self, files: Mapping[str, str], folder: Path) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._evict_unused()
        with tempfile.TemporaryDirectory(dir=self._root) as scratch:
            staging = Path(scratch, "bundle")
            staging.mkdir()
            for name, sha256 in files.items():
                (staging / name).write_bytes(self._store.get(sha256))
                if not _has_digest(staging / name, sha256):
                    raise manifest.InvalidBundle(
                        f"The registry's {name} is not the file that was added: add the bundle again."
                    )
            if folder.exists() and not _has_files(folder, files):  # altered on disk
                folder.rename(Path(scratch, "old"))
            try:
                staging.rename(folder)
            except OSError:
                if not _has_files(folder, files):  # otherwise another worker on this machine was faster
                    raise

    def _evict_unused(self) -> None:
        """Remove bundles that no worker has used for a week."""
        for folder in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker's temporary folder
                if folder.stat().st_mtime < time.time() - EVICT_AFTER_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


def _has_files(folder: Path, files: Mapping[str, str]) -> bool:
    return all(_has_digest(folder / name, sha256) for name, sha256 in files.items())


def _has_digest(path: Path, sha256: str) -> bool:
    return path.is_file() and atomic_files.sha256_file(path) == sha256
