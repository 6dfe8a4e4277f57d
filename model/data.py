"""Keeps a folder-per-class data set ready for use: every picture decoded once, so that epochs read no files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections import Counter
from concurrent import futures
from typing import TYPE_CHECKING

import numpy as np

from model import folders as classfolders
from model import preprocess
from model.folders import BadData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Progress = Callable[[int, int], None]

__all__ = ["BadData", "Photos", "Skipped", "read"]

# Decoded pictures beyond this many bytes lie in a file without a name and are mapped into memory.
MOST_IN_MEMORY = 2**30


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A file that is not part of the set, and why."""

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True)
class Photos:
    """A data set: `targets` int64 [N] index `labels`; picture i is `pixels[rows[i]]`, uint8 [H, W, 3].

    The pictures are in the order of their classes and digests, so that the same pictures are the same set
    whatever their names. `fingerprint` is the SHA-256 over the sorted (label, SHA-256 of file) pairs.
    """

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    fingerprint: str
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.uint8]:
        """The pixels [n, H, W, 3] of some pictures."""
        taken: npt.NDArray[np.uint8] = self.pixels[self.rows[positions]]
        return taken

    def subset(self, positions: npt.NDArray[np.int64]) -> Photos:
        """The pictures at some positions, not copied; the labels stay, and the fingerprint still names the whole."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[position] for position in positions),
            digests=tuple(self.digests[position] for position in positions),
            targets=self.targets[positions],
            rows=self.rows[positions],
        )

    def counts(self) -> dict[str, int]:
        """How many pictures each label has."""
        return {label: int((self.targets == index).sum()) for index, label in enumerate(self.labels)}


@dataclasses.dataclass(frozen=True)
class _File:
    target: int
    path: Path
    digest: str


def read(
    folders: Sequence[Path],
    shape: preprocess.Preprocess,
    *,
    labels: Sequence[str] | None = None,
    partly: bool = False,
    without: Iterable[str] = (),
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Photos:
    """Decodes every picture of some folders that each have one sub-folder a class, on all cores.

    Unreadable pictures and exact duplicates end up in `skipped`.

    Args:
        folders: data sets to be read as one; a class may be in several of them.
        shape: the size and the filter of the decoded pixels.
        labels: the classes that must be met, in their order; None takes what is there, sorted.
        partly: whether some of `labels` may be missing.
        without: digests of files that are skipped, because another set has them.
        scratch: where the nameless file of a big set lies; None takes the system's folder for such.
        progress: called with (pictures done, pictures in all).

    Raises:
        BadData: for a missing folder, fewer than two classes, an empty class, other classes than `labels`.
        OSError: when the disk has no room for a big set.
    """
    listed = classfolders.files(folders)
    known = classfolders.checked({label for label, _ in listed}, labels, folders, partly=partly)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = pool.map(_hashed, [path for _, path in listed])
        files, skipped = _unique([(known.index(label), path) for label, path in listed], hashed, set(without))
        pixels = _room((len(files), shape.height, shape.width, 3), scratch)
        reasons = []
        for reason in pool.map(lambda row: _decode(files[row], shape, pixels[row]), range(len(files))):
            reasons.append(reason)
            if progress:
                progress(len(reasons), len(files))
    skipped += [Skipped(file.path, reason) for file, reason in zip(files, reasons, strict=True) if reason]
    rows = np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.int64)
    photos = _photos(known, [files[row] for row in rows], pixels, rows, skipped)
    _check_filled(photos, {label for label, _ in listed})
    return photos


def _hashed(path: Path) -> str | OSError:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as wrong:
        return wrong


def _unique(
    listed: Sequence[tuple[int, Path]], hashed: Iterable[str | OSError], without: set[str]
) -> tuple[list[_File], list[Skipped]]:
    """One file a digest, in the order of classes and digests."""
    kept: dict[str, _File] = {}
    skipped: list[Skipped] = []
    for (target, path), digest in zip(listed, hashed, strict=True):
        if isinstance(digest, OSError):
            skipped.append(Skipped(path, f"the file cannot be read ({digest.strerror})"))
        elif digest in without:
            skipped.append(Skipped(path, "the same file is in DATA, where it may be held out"))
        elif digest in kept:
            other = "" if kept[digest].target == target else ", which is of another class"
            skipped.append(Skipped(path, f"the same file as {kept[digest].path}{other}"))
        else:
            kept[digest] = _File(target, path, digest)
    return sorted(kept.values(), key=lambda file: (file.target, file.digest)), skipped


def _room(shape: tuple[int, ...], scratch: Path | None) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    if size <= MOST_IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(dir=scratch) as file:
        # All of it now: writing to a mapped file on a full disk would end the process with SIGBUS.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def _decode(file: _File, shape: preprocess.Preprocess, into: npt.NDArray[np.uint8]) -> str:
    """The reason why not, or '' when `into` holds the picture."""
    try:
        into[:] = shape.pixels(file.path.read_bytes())
    except (preprocess.BadPicture, OSError) as wrong:
        return str(wrong)
    return ""


def _photos(
    labels: tuple[str, ...],
    files: Sequence[_File],
    pixels: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    skipped: Sequence[Skipped],
) -> Photos:
    lines = "".join(sorted(f"{labels[file.target]}\0{file.digest}\n" for file in files))
    return Photos(
        labels=labels,
        paths=tuple(file.path for file in files),
        digests=tuple(file.digest for file in files),
        targets=np.array([file.target for file in files], dtype=np.int64),
        pixels=pixels,
        rows=rows,
        fingerprint=hashlib.sha256(lines.encode()).hexdigest(),
        skipped=tuple(skipped),
    )


def _check_filled(photos: Photos, found: set[str]) -> None:
    counts = Counter({label: count for label, count in photos.counts().items() if label in found})
    for label, count in counts.items():
        if not count:
            example = next((f" (the first: {s.path}: {s.reason})" for s in photos.skipped), "")
            raise BadData(f"No picture of the class {label!r} can be read{example}; add readable pictures.")
