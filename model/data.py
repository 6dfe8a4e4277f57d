"""Keeps a folder-per-class data set in memory: every picture decoded once, so that epochs read no files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model import preprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt


class BadData(ValueError):
    """A data set that nothing can be learned from; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A file that is not part of the set, and why."""

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True)
class Photos:
    """A data set: `pixels` uint8 [N, H, W, 3] and `targets` int64 [N], which index `labels`.

    `fingerprint` is the SHA-256 over the sorted (label, SHA-256 of file) pairs: the same for the same
    pictures, whatever their names.
    """

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    fingerprint: str
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, positions: npt.NDArray[np.int64]) -> Photos:
        """The pictures at some positions; the labels stay, and the fingerprint still names the whole."""
        paths = tuple(self.paths[position] for position in positions)
        targets, pixels = self.targets[positions], self.pixels[positions]
        return dataclasses.replace(self, paths=paths, targets=targets, pixels=pixels)

    def counts(self) -> dict[str, int]:
        """How many pictures each label has."""
        return {label: int((self.targets == index).sum()) for index, label in enumerate(self.labels)}


def read(
    folders: Sequence[Path],
    shape: preprocess.Preprocess,
    *,
    labels: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Photos:
    """Decodes every picture of some folders that each have one sub-folder a class.

    Unreadable pictures and exact duplicates end up in `skipped`. All of it is held in memory:
    height x width x 3 bytes a picture.

    Args:
        folders: data sets to be read as one; a class may be in several of them.
        shape: the size and the filter of the decoded pixels.
        labels: the classes that must be met, in their order; None takes what is there, sorted.
        progress: called with (pictures done, pictures in all).

    Raises:
        BadData: for a missing folder, fewer than two classes, an empty class, other classes than `labels`.
    """
    files = [found for folder in folders for found in _files(Path(folder))]
    labels = tuple(labels or sorted({label for label, _ in files}))
    _check_labels(labels, {label for label, _ in files}, folders)
    rows, skipped = _decode(files, shape, progress)
    _check_filled(labels, Counter(label for label, *_ in rows), skipped)
    return Photos(
        labels=labels,
        paths=tuple(path for _, path, _, _ in rows),
        targets=np.array([labels.index(label) for label, *_ in rows], dtype=np.int64),
        pixels=np.stack([pixels for *_, pixels in rows]),
        fingerprint=_fingerprint((label, digest) for label, _, digest, _ in rows),
        skipped=tuple(skipped),
    )


def join(first: Photos, second: Photos) -> Photos:
    """Two sets with the same labels as one; what the second repeats of the first is kept."""
    if first.labels != second.labels:
        raise BadData(f"The classes differ: {', '.join(first.labels)} and {', '.join(second.labels)}.")
    return Photos(
        labels=first.labels,
        paths=first.paths + second.paths,
        targets=np.concatenate([first.targets, second.targets]),
        pixels=np.concatenate([first.pixels, second.pixels]),
        fingerprint=_fingerprint([("", first.fingerprint), ("", second.fingerprint)]),
        skipped=first.skipped + second.skipped,
    )


def _files(folder: Path) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        raise BadData(f"There is no folder {folder}; give one that holds a sub-folder for each class.")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = []
    for class_folder in classes:
        files = [path for path in sorted(class_folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
        if not files:
            raise BadData(f"The class folder {class_folder} is empty; fill it or remove it.")
        found += [(class_folder.name, path) for path in files]
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _check_labels(labels: Sequence[str], found: set[str], folders: Sequence[Path]) -> None:
    told = ", ".join(str(folder) for folder in folders)
    if len(labels) < 2:
        raise BadData(f"{told} has {len(labels)} class folder(s); there must be at least two, one a class.")
    if set(labels) != found:
        names = f"{', '.join(sorted(found))} instead of {', '.join(labels)}"
        raise BadData(f"{told} has the class folders {names}; rename, add or remove folders.")


def _decode(
    files: Sequence[tuple[str, Path]],
    shape: preprocess.Preprocess,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[tuple[str, Path, str, npt.NDArray[np.uint8]]], list[Skipped]]:
    rows: list[tuple[str, Path, str, npt.NDArray[np.uint8]]] = []
    skipped: list[Skipped] = []
    seen: dict[str, Path] = {}
    for done, (label, path) in enumerate(files, start=1):
        try:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest in seen:
                skipped.append(Skipped(path, f"the same file as {seen[digest]}"))
            else:
                rows.append((label, path, digest, shape.pixels(data)))
                seen[digest] = path
        except (preprocess.BadPicture, OSError) as wrong:
            skipped.append(Skipped(path, str(wrong)))
        if progress:
            progress(done, len(files))
    return rows, skipped


def _check_filled(labels: Sequence[str], counts: Counter[str], skipped: Sequence[Skipped]) -> None:
    for label in labels:
        if not counts[label]:
            example = next((f" (the first: {s.path}: {s.reason})" for s in skipped), "")
            raise BadData(f"No picture of the class {label!r} can be read{example}; add readable pictures.")


def _fingerprint(pairs: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> str:
    lines = "".join(f"{label}\0{digest}\n" for label, digest in sorted(pairs))
    return hashlib.sha256(lines.encode()).hexdigest()
