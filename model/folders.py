"""Keeps the way from a folder per class to a list of files, and the complaints about folders that are no data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class BadData(ValueError):
    """A data set that nothing can be learned from; the message says why and what to do."""


def files(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """(class, file) of every visible file below the class folders, in the order of the folders and their names.

    Raises:
        BadData: for a missing folder, a file in a folder's place, an unreadable folder, an empty class.
    """
    return [found for folder in folders for found in _files(folder)]


def checked(found: set[str], labels: Sequence[str] | None, folders: Sequence[Path], *, partly: bool) -> tuple[str, ...]:
    """The classes in order: those found, or the ones that must be met.

    Args:
        found: names of the class folders.
        labels: the classes that must be met, in their order; None takes what is there, sorted.
        folders: where they were found, for the message.
        partly: whether some of `labels` may be missing.

    Raises:
        BadData: for fewer than two classes, or others than `labels`.
    """
    told = ", ".join(str(folder) for folder in folders)
    if labels is None:
        if len(found) < 2:
            raise BadData(f"{told} has {len(found)} class folder(s); there must be at least two, one a class.")
        return tuple(sorted(found))
    unknown, missing = sorted(found - set(labels)), [label for label in labels if label not in found]
    if unknown or not found or (missing and not partly):
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"has {', '.join(unknown)} too"] if unknown else []
        raise BadData(f"{told} must have the class folders {', '.join(labels)}, but {' and '.join(faults)}.")
    return tuple(labels)


def _files(folder: Path) -> list[tuple[str, Path]]:
    if folder.is_file():
        raise BadData(f"{folder} is a file; give a folder that holds a sub-folder for each class.")
    if not folder.is_dir():
        raise BadData(f"There is no folder {folder}; give one that holds a sub-folder for each class.")
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return [(inside.name, path) for inside in classes for path in _class_files(inside)]
    except PermissionError as refused:
        raise BadData(f"{refused.filename} may not be read; change its permissions.") from refused


def _class_files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
    if not found:
        raise BadData(f"The class folder {folder} is empty; fill it or remove it.")
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
