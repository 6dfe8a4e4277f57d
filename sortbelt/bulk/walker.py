"""Directory walker: yield the images below a folder, without following links, in bounded memory."""

import itertools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sortbelt import errors
from sortbelt.bulk import skipped_files
from sortbelt.client import image_files
from sortbelt.files import file_kinds, file_names, file_rules

SORT_CHUNK_SIZE = 1000  # names in memory at a time; a larger folder is sorted in parts
UNREADABLE_FOLDER, UNREADABLE = "unreadable folder", "unreadable"


class WalkSummary(NamedTuple):
    """Content of a folder: images, how many of them are new, the bytes of those, and skipped entries by reason.

    `left_out_files` has name and reason of the first skipped entries that may be images.
    """

    image_count: int
    new_count: int
    new_bytes: int
    skipped: Counter[str]
    left_out_files: Sequence[dict[str, str]] = ()

    @property
    def left_out(self) -> Counter[str]:
        """Return the skipped entries that may be images, by reason."""
        return Counter({r: count for r, count in self.skipped.items() if r not in file_rules.HARMLESS_REASONS})


class DirectoryWalker:
    """Images below a folder, or in an archive, which is read as a folder.

    Args:
        root: the folder, or the archive.
        include: globs of files to take; if any, they replace the list of suffixes.
        exclude: globs of files and folders to skip. A glob without a slash matches the last part of a path.
    """

    def __init__(self, root: str, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self.root, self.include, self.exclude = root, include, exclude
        self._skipped = skipped_files.SkippedFiles()

    def summarize(
        self, is_new: Callable[[image_files.Image], bool] = lambda _: True, *, allow_empty: bool = False
    ) -> WalkSummary:
        """Walk the folder and count, without opening images; `is_new` decides which images count as new.

        Raises:
            errors.BadInput: the folder does not exist, or has no images although `allow_empty` is False.
        """
        image_count = new_count = new_bytes = 0
        for image in self.walk():
            image_count += 1
            if is_new(image):
                new_count, new_bytes = new_count + 1, new_bytes + image.size
        if not image_count and not allow_empty:
            raise errors.BadInput(self._no_images_message(), "no_pictures")
        skipped = self._skipped
        return WalkSummary(image_count, new_count, new_bytes, skipped.counts, skipped.left_out)

    def _no_images_message(self) -> str:
        if not self._skipped.counts:
            return f"{self.root} is empty: name a folder with images."
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._skipped.counts.most_common())
        suffixes = " ".join(file_kinds.IMAGE_SUFFIXES)
        return f"{self.root} has no images ({reasons}): images are files with the suffixes {suffixes}."

    def walk(self) -> Iterator[image_files.Image]:
        """Yield the images, sorted by name in folders of up to `SORT_CHUNK_SIZE` entries.

        An image that cannot be sent is yielded too: reading it raises the reason.

        Raises:
            errors.BadInput: the folder does not exist.
        """
        self._skipped = skipped_files.SkippedFiles()
        rules = file_rules.FileRules(self.include, self.exclude)
        if file_rules.is_archive(self.root) and os.path.isfile(self.root):  # noqa: PTH113 - a string is all that is needed
            root = os.path.realpath(self.root)  # a link that is named explicitly is followed
            yield from _walk_archive(root, "", rules, self._skipped)
            return
        pending = [(self.root, "", _list_root(self.root))]
        while pending:
            path, prefix, names = pending[-1]
            name = next(names, None)
            if name is None:
                pending.pop()
                continue
            full, relative = os.path.join(path, name), prefix + name  # noqa: PTH118 - half the cost per image
            info, stat_error = self._lstat(full)
            reason = _skip_reason(relative, info, rules) or stat_error
            if reason or info is None:
                self._skipped.add(relative, reason)
            elif stat.S_ISDIR(info.st_mode):
                pending.append((full, relative + "/", self._list_subdirectory(full, relative)))
            elif file_rules.is_archive(name):
                yield from _walk_archive(full, relative, rules, self._skipped)
            else:
                yield _to_image(relative, full, info)

    def _lstat(self, path: str) -> tuple[os.stat_result | None, str]:
        """Return what is known of a directory entry, or None and why it is not known."""
        try:
            return os.lstat(path), ""
        except (FileNotFoundError, NotADirectoryError):
            return None, file_rules.VANISHED
        except OSError:
            return None, UNREADABLE

    def _list_subdirectory(self, path: str, relative: str) -> Iterator[str]:
        try:
            yield from _list_names(path)
        except OSError:
            self._skipped.add(relative, UNREADABLE_FOLDER)


def _walk_archive(
    path: str, name: str, rules: file_rules.FileRules, skipped: skipped_files.SkippedFiles
) -> Iterator[image_files.Image]:
    from sortbelt.bulk import archive_walker  # noqa: PLC0415 - most folders have no archive: the formats take 5 ms

    return archive_walker.walk(path, name, rules, skipped)


def _to_image(relative: str, full: str, info: os.stat_result) -> image_files.Image:
    name = file_names.escape_name(relative)
    source = image_files.too_long_name(name) if file_names.is_too_long(name) else full
    return image_files.Image(name, info.st_size, source, info.st_mtime_ns)


def _list_names(path: str) -> Iterator[str]:
    """Yield the names in a folder; a small one is closed first, since nesting may exceed the limit of open files."""
    with os.scandir(path) as entries:
        chunk = _next_names(entries)
        is_small = len(chunk) < SORT_CHUNK_SIZE
        while chunk and not is_small:
            yield from chunk
            chunk = _next_names(entries)
    yield from chunk


def _next_names(entries: Iterator[os.DirEntry[str]]) -> list[str]:
    return sorted(entry.name for entry in itertools.islice(entries, SORT_CHUNK_SIZE))


def check_folder(root: str) -> None:
    """Check that a folder exists and can be read.

    Raises:
        errors.BadInput: it does not, or cannot.
    """
    try:
        os.scandir(root).close()
    except FileNotFoundError:
        raise errors.BadInput(f"The folder {root} does not exist: check its name.", "no_such_folder") from None
    except NotADirectoryError:
        if file_rules.is_unsupported_archive(root):
            raise errors.BadInput(
                f"{root} is an {file_rules.UNSUPPORTED_ARCHIVE}: unpack it, and name the folder.", "unsupported_archive"
            ) from None
        raise errors.BadInput(
            f"{root} is not a folder: use `sortbelt submit {root}` for single files.", "not_a_folder"
        ) from None
    except OSError as error:
        raise errors.BadInput(f"{root} cannot be read: {error.strerror}.", "unreadable") from None


def _list_root(root: str) -> Iterator[str]:
    check_folder(root)
    return _list_names(root)


def _skip_reason(relative: str, info: os.stat_result | None, rules: file_rules.FileRules) -> str:
    """Return why a directory entry is skipped; empty if it is not, or `info` is None and its name no reason."""
    if info is not None and stat.S_ISREG(info.st_mode):
        return rules.skip_file_or_archive(relative)
    if reason := rules.skip_folder(relative):
        return reason
    if info is None:
        return ""
    if stat.S_ISLNK(info.st_mode):
        return file_rules.SYMBOLIC_LINK
    return "" if stat.S_ISDIR(info.st_mode) else file_rules.SPECIAL_FILE
