"""Read a folder-per-class data set into memory: every image is decoded once, before the first epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import operator
import os
import tempfile
from concurrent import futures
from typing import TYPE_CHECKING

import numpy as np

from imaging import errors
from model.datasets import class_folders, corrections
from model.datasets.class_folders import InvalidDataset, SkippedFile
from model.packaging import atomic_files
from model.preprocessing import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["ImageDataset", "InvalidDataset", "SkippedFile", "read", "read_each"]

# More decoded pixels than this are mapped from an unnamed file.
MAX_BYTES_IN_MEMORY = 2**30


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Decoded images: `targets` int64 [N] are indices of `labels`; image i is `pixels[rows[i]]`, uint8 [H, W, 3].

    Images are sorted by class and digest, so that a set does not depend on file names. `fingerprint` is the SHA-256
    of the sorted (label, SHA-256 of the file) pairs. `digests` are those of the files, `pixel_digests` those of the
    decoded pixels: no two images have the same. `soft_targets` [N, classes] are a teacher's predictions, if there is
    one. `relabelled` is the number of files whose label was corrected.
    """

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    pixel_digests: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    fingerprint: str
    skipped: tuple[SkippedFile, ...]
    soft_targets: npt.NDArray[np.float32] | None = None
    relabelled: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def pixels_at(self, positions: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.uint8]:
        """Return the pixels [n, H, W, 3] of the images at some positions."""
        selected: npt.NDArray[np.uint8] = self.pixels[self.rows[positions]]
        return selected

    def target_probabilities(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the target probabilities [n, classes] of some images: `soft_targets`, or 1 for the image's class."""
        if self.soft_targets is not None:
            return self.soft_targets[positions]
        return np.eye(len(self.labels), dtype=np.float32)[self.targets[positions]]

    def subset(self, positions: npt.NDArray[np.int64]) -> ImageDataset:
        """Return the images at some positions without copying pixels; labels and fingerprint stay the same."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[position] for position in positions),
            digests=tuple(self.digests[position] for position in positions),
            pixel_digests=tuple(self.pixel_digests[position] for position in positions),
            targets=self.targets[positions],
            rows=self.rows[positions],
            soft_targets=None if self.soft_targets is None else self.soft_targets[positions],
        )

    def class_counts(self) -> dict[str, int]:
        """Return the number of images per label."""
        return {label: int((self.targets == index).sum()) for index, label in enumerate(self.labels)}


@dataclasses.dataclass(frozen=True)
class _ImageFile:
    """A file, its class, its row of the decoded pixels, and its digests: the last one last."""

    target: int
    path: Path
    row: int = 0
    digests: tuple[str, ...] = ()


def read(
    folders: Sequence[Path],
    preprocess: decode.Preprocess,
    *,
    labels: Sequence[str] | None = None,
    allow_missing: bool = False,
) -> ImageDataset:
    """Decode every image of some folders to one size; see `read_each`."""
    (dataset,) = read_each(folders, [preprocess], labels=labels, allow_missing=allow_missing)
    return dataset


def read_each(
    folders: Sequence[Path],
    preprocesses: Sequence[decode.Preprocess],
    *,
    labels: Sequence[str] | None = None,
    allow_missing: bool = False,
    exclude: Sequence[ImageDataset] = (),
    corrected: Mapping[str, str | None] | None = None,
    scratch_dir: Path | None = None,
    on_image: Callable[[], None] | None = None,
) -> list[ImageDataset]:
    """Read every file once and decode it by each of `preprocesses`, on all cores.

    Unreadable images, what `class_folders.list_files` left out and exact duplicates, by bytes or by pixels, are listed
    in `skipped`. Of duplicates in one class
    the first stays; in several classes none does, because the label is unknown.

    Args:
        folders: data sets with one sub-folder per class, read as one; a class may occur in several of them.
        preprocesses: sizes and filters; the result has one data set for each, which differ in `pixels` only.
        labels: the expected classes, in order; None accepts any, sorted.
        allow_missing: whether some of `labels` may be absent.
        exclude: other sets, decoded by the first of `preprocesses`, whose images are skipped here.
        corrected: labels by the SHA-256 of the file, which outweigh the class folders; None skips the image.
        scratch_dir: folder for the unnamed file of a large set; None uses the system's temporary folder.
        on_image: called after each image; an exception ends the reading.

    Raises:
        InvalidDataset: a folder is missing, or the classes are not as expected or have no readable image.
        OSError: the disk is too full for a large set.
    """
    labelled_files, left_out = class_folders.list_files(folders)
    present_labels = {label for label, _ in labelled_files}
    classes = class_folders.resolve_classes(present_labels, labels, folders, allow_missing=allow_missing)
    corrected = corrected or {}
    corrections.check_labels(corrected, classes)
    excluded = corrections.left_out(corrected)
    for other in exclude:
        reason = "the same image is in DATA or --extra: it may not be trained on and held out"
        excluded |= dict.fromkeys((*other.digests, *other.pixel_digests), reason)
    with futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        file_digests = list(pool.map(_hash_file, [path for _, path in labelled_files]))
        folder_labels = [label for label, _ in labelled_files]
        true_labels = [
            corrected.get(str(digest)) or label for label, digest in zip(folder_labels, file_digests, strict=True)
        ]
        relabelled = sum(map(operator.ne, folder_labels, true_labels))
        files = [
            _ImageFile(classes.index(label), path) for label, (_, path) in zip(true_labels, labelled_files, strict=True)
        ]
        files, skipped = _unique(files, file_digests, excluded)
        arrays = [allocate((len(files), each.height, each.width, 3), scratch_dir) for each in preprocesses]
        pixel_digests = []
        for digest in pool.map(
            lambda row: _decode_into(files[row], preprocesses, [pixels[row] for pixels in arrays]), range(len(files))
        ):
            pixel_digests.append(digest)
            if on_image:
                on_image()
    files = [dataclasses.replace(file, row=row) for row, file in enumerate(files)]
    files, skipped_by_pixels = _unique(files, pixel_digests, excluded)
    skipped += skipped_by_pixels + left_out
    dataset = _build_dataset(classes, files, arrays[0], skipped)
    _check_no_empty_class(dataset, present_labels)
    return [dataclasses.replace(dataset, pixels=pixels, relabelled=relabelled) for pixels in arrays]


def _hash_file(path: Path) -> str | Exception:
    try:
        return atomic_files.sha256_file(path)
    except OSError as error:
        return error


def _unique(
    files: Sequence[_ImageFile], digests: Iterable[str | Exception], excluded: Mapping[str, str]
) -> tuple[list[_ImageFile], list[SkippedFile]]:
    """Return one file per digest, sorted by class and first digest, and the skipped files.

    `excluded` are the reasons why the images with some digests are skipped.
    """
    by_digest: dict[str, list[_ImageFile]] = {}
    skipped: list[SkippedFile] = []
    for file, digest in zip(files, digests, strict=True):
        if isinstance(digest, Exception):
            skipped.append(SkippedFile(file.path, _explain(digest)))
        elif digest in excluded:
            skipped.append(SkippedFile(file.path, excluded[digest]))
        else:
            same_files = by_digest.setdefault(digest, [])
            same_files.append(dataclasses.replace(file, digests=(*file.digests, digest)))
    kept: list[_ImageFile] = []
    for first, *others in by_digest.values():
        conflict = next((other for other in others if other.target != first.target), None)
        if conflict:
            reason = "the same image is in another class, as {}: remove one of them"
            skipped.append(SkippedFile(first.path, reason.format(conflict.path)))
        else:
            kept.append(first)
            reason = "the same image as {}"
        skipped += [SkippedFile(other.path, reason.format(first.path)) for other in others]
    return sorted(kept, key=lambda file: (file.target, file.digests[0])), skipped


def _explain(error: Exception) -> str:
    return f"the file cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def allocate(shape: tuple[int, ...], scratch_dir: Path | None) -> npt.NDArray[np.uint8]:
    """Return memory for decoded pixels: of the process, or of an unnamed file in `scratch_dir` if it is much.

    The folder is created if it is missing.
    """
    size = int(np.prod(shape))
    if size <= MAX_BYTES_IN_MEMORY:
        return np.empty(shape, np.uint8)
    if scratch_dir:
        scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch_dir) as file:
        # Reserve the space: writing to a mapped file on a full disk would kill the process with SIGBUS.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def _decode_into(
    file: _ImageFile, preprocesses: Sequence[decode.Preprocess], outputs: Sequence[npt.NDArray[np.uint8]]
) -> str | Exception:
    """Decode a file into each output; return the SHA-256 of the first one's pixels, or why it cannot be decoded."""
    try:
        data = file.path.read_bytes()
        for preprocess, output in zip(preprocesses, outputs, strict=True):
            output[:] = preprocess.decode(data)
    except (errors.ImageDecodeError, OSError) as error:
        return error
    return hashlib.sha256(outputs[0].tobytes()).hexdigest()


def _build_dataset(
    labels: tuple[str, ...],
    files: Sequence[_ImageFile],
    pixels: npt.NDArray[np.uint8],
    skipped: Sequence[SkippedFile],
) -> ImageDataset:
    lines = "".join(sorted(f"{labels[file.target]}\0{file.digests[0]}\n" for file in files))
    return ImageDataset(
        labels=labels,
        paths=tuple(file.path for file in files),
        digests=tuple(file.digests[0] for file in files),
        pixel_digests=tuple(file.digests[1] for file in files),
        targets=np.array([file.target for file in files], dtype=np.int64),
        pixels=pixels,
        rows=np.array([file.row for file in files], dtype=np.int64),
        fingerprint=hashlib.sha256(lines.encode()).hexdigest(),
        skipped=tuple(skipped),
    )


def _check_no_empty_class(dataset: ImageDataset, present_labels: set[str]) -> None:
    for label, count in dataset.class_counts().items():
        if label in present_labels and not count:
            examples = [f" (first error: {file.path}: {file.reason})" for file in dataset.skipped[:1]]
            raise InvalidDataset(f"The class {label!r} has no readable image{''.join(examples)}: add images.")
