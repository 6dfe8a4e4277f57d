"""List the files of a data set that has one sub-folder per class, and reject folders that are not one."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class InvalidDataset(ValueError):
    """The data set cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class SkippedFile:
    """A file that was left out, and why."""

    path: Path
    reason: str


def list_files(folders: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[SkippedFile]]:
    """Return (class, file) for every visible file below the class folders, and what was left out, in order of names.

    Left out are files beside the class folders, folders that cannot be read, and links to folders or to nothing. A
    link to a file is read, and so is a class folder that is a link.

    Raises:
        InvalidDataset: a folder is missing or a file, it or a class folder is unreadable, or a class folder is empty.
    """
    files: list[tuple[str, Path]] = []
    skipped: list[SkippedFile] = []
    for folder in folders:
        for path in _list_visible(folder):
            if path.is_dir():
                class_files, skipped_files = _list_class_files(path)
                files += [(path.name, file) for file in class_files]
                skipped += skipped_files
            else:
                skipped.append(SkippedFile(path, _why_unreadable(path) or "it is in no class folder"))
    return files, skipped


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


def _list_visible(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            problem = "is a file" if folder.is_file() else "does not exist"
            raise InvalidDataset(f"{folder} {problem}: give a folder with one sub-folder per class.")
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except PermissionError as error:
        raise InvalidDataset(f"{folder} cannot be read: change its permissions.") from error


def _list_class_files(folder: Path) -> tuple[list[Path], list[SkippedFile]]:
    files: list[Path] = []
    reasons: dict[Path, str] = {}

    def on_error(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise InvalidDataset(f"{folder} cannot be read: change its permissions.") from error
        reasons[Path(error.filename)] = f"the folder cannot be read ({error.strerror})"

    for parent, folder_names, names in os.walk(folder, onerror=on_error):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        links = [path for name in folder_names if (path := Path(parent, name)).is_symlink()]
        reasons |= dict.fromkeys(links, "it is a link to a folder, which is not followed")
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            reason = _why_unreadable(path)
            if reason:
                reasons[path] = reason
            else:
                files.append(path)
    skipped = [SkippedFile(path, reasons[path]) for path in sorted(reasons)]
    if not files:
        examples = [f" (left out: {each.path}: {each.reason})" for each in skipped[:1]]
        raise InvalidDataset(f"The class folder {folder} is empty{''.join(examples)}: add images or remove it.")
    return sorted(files), skipped


def _why_unreadable(path: Path) -> str | None:
    """Return why a path cannot be read as a file, or None."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "it is a link to a file that does not exist"
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return None if stat.S_ISREG(mode) else "it is not a file"
