"""List the files of a data set that has one sub-folder per class, and reject folders that are not one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class InvalidDataset(ValueError):
    """The data set cannot be used; the message says why and what to do."""


def list_files(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return (class, file) for every visible file below the class folders, in the order of folders and names.

    Raises:
        InvalidDataset: a folder is missing, unreadable or a file, or a class folder is empty.
    """
    return [labelled_file for folder in folders for labelled_file in _list_dataset_files(folder)]


def list_loose_files(folders: Sequence[Path]) -> list[Path]:
    """Return the visible files that lie beside the class folders; they belong to no class."""
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."]


def resolve_classes(
    present_labels: set[str], labels: Sequence[str] | None, folders: Sequence[Path], *, allow_missing: bool
) -> tuple[str, ...]:
    """Return the classes in order: the expected ones, or else those present, sorted.

    Args:
        present_labels: names of the class folders.
        labels: the expected classes, in order; None accepts any.
        folders: the data sets, for the error message.
        allow_missing: whether some of `labels` may be absent.

    Raises:
        InvalidDataset: there are fewer than two classes, other classes than `labels`, or names that are not UTF-8.
    """
    _check_names(present_labels)
    folder_list = ", ".join(str(folder) for folder in folders)
    if labels is None:
        if len(present_labels) < 2:
            problem = f"{folder_list} has {len(present_labels)} class folder(s), {', '.join(present_labels) or 'none'}"
            raise InvalidDataset(f"{problem}: give a folder with one sub-folder for each class, at least two.")
        return tuple(sorted(present_labels))
    unknown, missing = sorted(present_labels - set(labels)), [label for label in labels if label not in present_labels]
    if unknown or not present_labels or (missing and not allow_missing):
        problems = [f"lacks {', '.join(missing)}"] if missing else []
        problems += [f"has the unknown {', '.join(unknown)}"] if unknown else []
        expected = ", ".join(labels)
        raise InvalidDataset(f"{folder_list} {' and '.join(problems)}: its class folders must be {expected}.")
    return tuple(labels)


def _check_names(labels: set[str]) -> None:
    for label in sorted(labels):
        name = os.fsencode(label).decode("utf-8", "backslashreplace")
        if name != label:
            raise InvalidDataset(f"The name of the class folder {name} is not UTF-8: rename it.")


def _list_dataset_files(folder: Path) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        problem = "is a file" if folder.is_file() else "does not exist"
        raise InvalidDataset(f"{folder} {problem}: give a folder with one sub-folder per class.")
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return [(class_folder.name, path) for class_folder in classes for path in _list_class_files(class_folder)]
    except PermissionError as error:
        raise InvalidDataset(f"{error.filename} cannot be read: change its permissions.") from error


def _list_class_files(folder: Path) -> list[Path]:
    class_files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path, folder)]
    if not class_files:
        raise InvalidDataset(f"The class folder {folder} is empty: add images or remove it.")
    return class_files


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
