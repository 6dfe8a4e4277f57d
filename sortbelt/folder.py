"""A folder as a stream of pictures: recursive, never following a link, opening anything special or filling memory."""

import fnmatch
import itertools
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sortbelt import errors, pictures

SORTED = 1000  # so many names at a time: whole folders of people, parts of folders of machines
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder holds: pictures and their bytes, those of them that are new, and skipped files by reason."""

    pictures: int
    size: int
    new: int
    new_size: int
    skipped: Counter[str]


@dataclass(frozen=True)
class Folder:
    """The pictures below a folder.

    Attributes:
        root: the folder.
        include: globs; given any, they decide what is a picture instead of the suffix.
        exclude: globs of files and folders to leave out. A glob without a slash is about the last part of the name.
    """

    root: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    _skipped: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def survey(
        self, is_new: Callable[[pictures.Picture], bool] = lambda _: True, *, may_be_empty: bool = False
    ) -> Survey:
        """A count of everything, by a walk that opens no file; `is_new` tells what counts as new.

        Raises:
            errors.BadInput: there is no such folder, or no picture in it and it may not be empty.
        """
        count = size = new = new_size = 0
        for picture in self.pictures():
            count, size = count + 1, size + picture.size
            if is_new(picture):
                new, new_size = new + 1, new_size + picture.size
        if not count and not may_be_empty:
            raise errors.BadInput(self._nothing_here(), "no_pictures")
        return Survey(count, size, new, new_size, Counter(self._skipped))

    def _nothing_here(self) -> str:
        if not self._skipped:
            return f"{self.root} is empty: name a folder that holds pictures."
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._skipped.most_common())
        return f"{self.root} holds no pictures ({reasons}): pictures are files named {' '.join(SUFFIXES)}."

    def pictures(self) -> Iterator[pictures.Picture]:
        """The pictures; sorted in folders of up to a thousand names, by thousands in bigger ones.

        Raises:
            errors.BadInput: there is no such folder.
        """
        self._skipped.clear()
        include, exclude = _matcher(self.include), _matcher(self.exclude)
        levels = [(self.root, "", _first(self.root))]
        while levels:
            path, prefix, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                continue
            full, relative = os.path.join(path, name), prefix + name  # noqa: PTH118 - half the cost per picture
            info = self._stat(full)
            reason = _why_not(name, relative, info, include, exclude)
            if reason or info is None:
                self._skipped[reason] += 1
            elif stat.S_ISDIR(info.st_mode):
                levels.append((full, relative + "/", self._inside(full)))
            else:
                yield pictures.Picture(pictures.wire_name(relative), info.st_size, full, info.st_mtime_ns)

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except OSError:
            return None

    def _inside(self, path: str) -> Iterator[str]:
        try:
            yield from _names(path)
        except OSError:
            self._skipped["unreadable folder"] += 1


def _names(path: str) -> Iterator[str]:
    """The names in a folder; a small one is not kept open: folders may be nested deeper than files may be opened."""
    with os.scandir(path) as entries:
        some = _some(entries)
        small = len(some) < SORTED
        while some and not small:
            yield from some
            some = _some(entries)
    yield from some


def _some(entries: Iterator[os.DirEntry[str]]) -> list[str]:
    return sorted(entry.name for entry in itertools.islice(entries, SORTED))


def _first(root: str) -> Iterator[str]:
    """The names in the folder that somebody named, which must be one."""
    try:
        os.scandir(root).close()
    except FileNotFoundError:
        raise errors.BadInput(f"There is no folder {root}.", "no_such_folder") from None
    except NotADirectoryError:
        raise errors.BadInput(
            f"{root} is no folder: `sortbelt submit {root}` takes single files.", "not_a_folder"
        ) from None
    except OSError as error:
        raise errors.BadInput(f"{root} cannot be read: {error.strerror}.", "unreadable") from None
    return _names(root)


class _Globs:
    """Some globs as two expressions: those about a whole name, and those about its last part."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._whole = _expression([glob for glob in globs if "/" in glob])
        self._last = _expression([glob for glob in globs if "/" not in glob])

    def __call__(self, name: str, relative: str) -> bool:
        return bool((self._last and self._last.match(name)) or (self._whole and self._whole.match(relative)))


def _matcher(globs: Sequence[str]) -> _Globs | None:
    return _Globs(globs) if globs else None


def _expression(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, globs))) if globs else None


def _why_not(
    name: str, relative: str, info: os.stat_result | None, include: _Globs | None, exclude: _Globs | None
) -> str:
    """Why a directory entry is left out, in two words; empty if it is not."""
    if name.startswith("."):
        return "hidden"
    if exclude and exclude(name, relative):
        return "excluded"
    return "vanished" if info is None else _wrong_kind(name, relative, info, include)


def _wrong_kind(name: str, relative: str, info: os.stat_result, include: _Globs | None) -> str:
    if stat.S_ISLNK(info.st_mode):
        return "symbolic link"
    if stat.S_ISDIR(info.st_mode):
        return ""
    if not stat.S_ISREG(info.st_mode):
        return "special file"
    wanted = include(name, relative) if include else name.lower().endswith(SUFFIXES)
    return "" if wanted else "not a picture"
