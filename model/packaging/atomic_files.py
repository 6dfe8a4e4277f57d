"""Write files and folders so that readers see the old or the new content, never a part; hash files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_atomic(path: Path, data: bytes) -> None:
    """Write a temporary file beside `path`, flush it to disk, and rename it to `path`."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary_path = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary_path.chmod(0o644)
            temporary_path.rename(path)
        except BaseException:
            temporary_path.unlink(missing_ok=True)
            raise
    fsync_dir(path.parent)


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` if the block succeeds, and is removed if it raises.

    Raises:
        OSError: the disk is full, or another process has just created `folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        staging = Path(scratch, "new")
        staging.mkdir(mode=0o755)
        yield staging
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        staging.rename(folder)
    fsync_dir(folder.parent)


def check_creatable(folder: Path) -> None:
    """Raise ValueError if files cannot be written to `folder`, or to the folder above in which it would be created."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        problem = f"{folder} cannot be written ({existing}: {error.strerror})"
        raise ValueError(f"{problem}: choose another folder.") from error


def fsync_dir(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
