"""A choice of pictures by their names: which files and folders of a source are taken, and which are left alone."""

import fnmatch
import re
from collections.abc import Sequence

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


class Choice:
    """Which names are taken: what is hidden never is, and without `include` only what has the suffix of a picture.

    A glob without a slash is about the last part of a name. `exclude` is about folders too.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _Globs(include) if include else None
        self._exclude = _Globs(exclude)

    def enters(self, path: str) -> bool:
        """Whether a folder is looked into, if those above it are."""
        return not _last_part(path).startswith(".") and not self._exclude.match(path)

    def takes(self, path: str) -> bool:
        """Whether a file is taken, wherever it lies."""
        parts = path.split("/")
        if not all(self.enters("/".join(parts[:end])) for end in range(1, len(parts) + 1)):
            return False
        return self._include.match(path) if self._include else path.lower().endswith(SUFFIXES)


class _Globs:
    """Some globs as two expressions: those about a whole name, and those about its last part."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._whole = _expression([glob for glob in globs if "/" in glob])
        self._last = _expression([glob for glob in globs if "/" not in glob])

    def match(self, path: str) -> bool:
        """Whether one of them is about this."""
        return bool((self._whole and self._whole.match(path)) or (self._last and self._last.match(_last_part(path))))


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]


def _expression(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, globs))) if globs else None
