"""The cache: bundles of the registry as local folders, each whole or not there, under a name made of its content."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from jobs import blobs, errors
from model import manifest

FORGET_SECONDS = 7 * 86_400


class Cache:
    """Fetches bundles when they are first needed."""

    def __init__(self, root: Path, store: blobs.Blobs) -> None:
        self._root = root
        self._store = store

    def folder(self, files: Mapping[str, str]) -> Path:
        """The folder that holds these files, {name: SHA-256}, and nothing else.

        Raises:
            manifest.BadBundle: the registry has lost a file, or holds an altered one.
            errors.Unavailable: the store or the disk does not answer.
        """
        folder = self._root / hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        try:
            if not _holds(folder, files):
                self._fetch(files, folder)
            os.utime(folder)  # it is in use
        except errors.BlobMissing:
            raise manifest.BadBundle("The registry has lost a file of the bundle: add it again.") from None
        except OSError as error:
            raise errors.Unavailable(f"{folder} cannot be written: {error.strerror}.") from error
        return folder

    def _fetch(self, files: Mapping[str, str], folder: Path) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget()
        with tempfile.TemporaryDirectory(dir=self._root) as scratch:
            fresh = Path(scratch, "bundle")
            fresh.mkdir()
            for name, sha256 in files.items():
                (fresh / name).write_bytes(self._store.get(sha256))
                if not _is(fresh / name, sha256):
                    raise manifest.BadBundle(f"The registry's {name} is not the file that was added: add it again.")
            if folder.exists() and not _holds(folder, files):  # somebody has meddled with it
                folder.rename(Path(scratch, "old"))
            try:
                fresh.rename(folder)
            except OSError:
                if not _holds(folder, files):  # else another worker of this machine was faster
                    raise

    def _forget(self) -> None:
        """Remove what nobody has used for a week."""
        for folder in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker's scratch
                if folder.stat().st_mtime < time.time() - FORGET_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


def _holds(folder: Path, files: Mapping[str, str]) -> bool:
    return all(_is(folder / name, sha256) for name, sha256 in files.items())


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
