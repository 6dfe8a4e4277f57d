"""File rules: which files of a folder, a bucket or an archive are images, and why the others are left out.

The server imports this module too, for its sources: it needs the standard library only.
"""

import fnmatch
import re
from collections.abc import Sequence

from sortbelt.files import file_kinds

# Thumbnails, recycle bins and indexes that cameras, storage devices and desktops put beside images.
SYSTEM_NAMES = {
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "lost.dir",
    "recycler",
    "system volume information",
    "thumbs.db",
}
SYSTEM_PREFIX = ".trash"
HIDDEN, SYSTEM_FILE, EXCLUDED, NOT_AN_IMAGE = "hidden", "system file", "excluded", "not an image"
SYMBOLIC_LINK, SPECIAL_FILE, VANISHED = "symbolic link", "special file", "vanished"
UNSUPPORTED_ARCHIVE = "archive of another format"
HARMLESS_REASONS = {HIDDEN, SYSTEM_FILE, EXCLUDED, NOT_AN_IMAGE, SYMBOLIC_LINK, SPECIAL_FILE, VANISHED}
"""The reasons of files that are not expected to be classified; any other means that images may be missing."""
ZIP_SUFFIXES, TAR_SUFFIXES = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
UNSUPPORTED_SUFFIXES = (".7z", ".rar", ".tar.xz", ".txz", ".tar.zst", ".tar.lz", ".tar.z")


def is_archive(path: str) -> bool:
    """Return whether a file is an archive that is read as a folder, by its suffix."""
    return path.lower().endswith(ZIP_SUFFIXES + TAR_SUFFIXES)


def is_unsupported_archive(path: str) -> bool:
    """Return whether a file is an archive of a format that is not read, by its suffix."""
    return path.lower().endswith(UNSUPPORTED_SUFFIXES)


class FileRules:
    """Decide by name which files and folders are taken.

    Args:
        include: globs of files to take; if any, they replace the list of suffixes.
        exclude: globs of files and folders to leave out. A glob without a slash matches the last part of a path.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _GlobSet(include) if include else None
        self._exclude = _GlobSet(exclude)

    def skip_folder(self, path: str) -> str:
        """Return why a folder or an archive is not entered; empty if it is."""
        name = _last_part(path)
        if name.lower() in SYSTEM_NAMES or name.lower().startswith(SYSTEM_PREFIX):
            return SYSTEM_FILE
        if name.startswith("."):
            return HIDDEN
        return EXCLUDED if self._exclude.match(path) else ""

    def skip_file_or_archive(self, path: str) -> str:
        """Return why a regular file is left out; empty for an image, and for an archive that is read as a folder."""
        if (reason := self.skip_folder(path)) or is_archive(path):
            return reason
        return UNSUPPORTED_ARCHIVE if is_unsupported_archive(path) else self._skip_by_kind(path)

    def _skip_by_kind(self, path: str) -> str:
        if self._include:
            return "" if self._include.match(path) else NOT_AN_IMAGE
        if path.lower().endswith(file_kinds.IMAGE_SUFFIXES):
            return ""
        return file_kinds.unsupported_reason(path) or NOT_AN_IMAGE

    def find_skipped(self, path: str, base: str = "") -> tuple[str, str]:
        """Return the file, or the folder above it and below `base`, that is left out, and why; else empty texts."""
        end = path.find("/", len(base) + 1 if base else 0)
        while end != -1:
            if reason := self.skip_folder(path[:end]):
                return path[:end], reason
            end = path.find("/", end + 1)
        reason = self.skip_file_or_archive(path)
        return (path, reason) if reason else ("", "")


class _GlobSet:
    """Globs, compiled into one expression for whole paths and one for their last parts."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._path_pattern = _compile_globs([glob for glob in globs if "/" in glob])
        self._name_pattern = _compile_globs([glob for glob in globs if "/" not in glob])

    def match(self, path: str) -> bool:
        """Return whether one of them matches."""
        return bool(
            (self._name_pattern and self._name_pattern.match(_last_part(path)))
            or (self._path_pattern and self._path_pattern.match(path))
        )


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]


def _compile_globs(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, globs))) if globs else None
