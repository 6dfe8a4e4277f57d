"""Sorter: transfer images into one folder per label. Never overwrites; a repeat does only what is left."""

import contextlib
import enum
import errno
import filecmp
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from sortbelt import errors
from sortbelt.client import responses
from sortbelt.files import file_names, file_rules

DEFAULT_MIN_FAMILIARITY = 0.02  # of photos like those of the training, one in fifty has less
UNPACK_ADVICE = (
    "`sort` takes no images out of archives. Unpack it, and sort the folder; known images are not sent again."
)
UNSURE_FOLDER = "unsure"
FAILED_FOLDER = "failed"
_UNSAFE_CHARACTERS = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


class TransferMode(enum.StrEnum):
    """How an image is transferred."""

    COPY = "copy"
    LINK = "link"  # hard link: takes no space, on one file system
    MOVE = "move"


class Outcome(enum.StrEnum):
    """Outcome for one image."""

    PLACED = "placed"
    ALREADY_PLACED = "already there"  # by an earlier run
    NAME_TAKEN = "place taken"  # another file has that name
    MISSING = "missing"  # the file does not exist, or is not a regular file
    IN_ARCHIVE = "in an archive"  # which is not unpacked
    UNSAFE_NAME = "unsafe name"  # the name leads out of the folder
    INVALID_NAME = "invalid name"  # the file system of the target cannot have it
    UNREADABLE = "unreadable"


class Sorter:
    """Transfer the images of one folder into label folders of another.

    Args:
        root: the folder with the images.
        out: the folder for the label folders, created when needed.
        mode: copy, link or move.
        min_confidence: labels of less confidence go to `unsure`.
        unfamiliar: the folder for images of less than `min_familiarity`, which may be none of the labels; None: they
            go to the folders of their labels.
        min_familiarity: a share of held-out training photos, 0 to 1.
        dry_run: whether to change nothing.

    Raises:
        errors.BadInput: `root` is an archive; or `out` or `unfamiliar` is inside `root`, where the next run would find
            its images as new ones.
    """

    def __init__(
        self,
        root: str,
        out: str,
        mode: TransferMode = TransferMode.COPY,
        *,
        min_confidence: float = 0.0,
        unfamiliar: str | None = None,
        min_familiarity: float = DEFAULT_MIN_FAMILIARITY,
        dry_run: bool = False,
    ) -> None:
        self._root = Path(os.path.realpath(root))
        self._out = Path(os.path.realpath(out))
        self._mode = mode
        self._min_confidence = min_confidence
        self._unfamiliar_folder = None if unfamiliar is None else os.path.realpath(unfamiliar)
        self._min_familiarity = min_familiarity
        self._dry_run = dry_run
        if self._root.is_file() and file_rules.is_archive(str(self._root)):
            raise errors.BadInput(f"{root} is an archive: {UNPACK_ADVICE}", "is_archive")
        for target in (out, *([] if unfamiliar is None else [unfamiliar])):
            if Path(os.path.realpath(target)).is_relative_to(self._root):
                raise errors.BadInput(
                    f"{target} is inside {root}, where sorted images would be found as new ones: "
                    "name a folder elsewhere.",
                    "bad_target",
                )

    def folder_for(self, result: responses.Result) -> str:
        """Return the name of the label folder for a result, or the path of the folder for unfamiliar images."""
        if result.label is None:
            return FAILED_FOLDER
        if self._unfamiliar_folder is not None and _is_below(result.familiarity, self._min_familiarity):
            return self._unfamiliar_folder
        if (result.confidence or 0.0) < self._min_confidence:
            return UNSURE_FOLDER
        return safe_folder_name(result.label)

    def transfer(self, result: responses.Result) -> Outcome:
        """Transfer one image.

        Raises:
            errors.BadInput: the transfer mode cannot work for any image, such as a link to another disk.
            OSError: the disk is full, or the folder cannot be written.
        """
        name = PurePosixPath(result.image)
        if name.is_absolute() or not name.parts or ".." in name.parts or "\0" in result.image:
            return Outcome.UNSAFE_NAME
        source = self._find_source(result.image)
        target = self._out / self.folder_for(result) / name
        if source is None:
            if self._mode is TransferMode.MOVE and target.is_file():
                return Outcome.ALREADY_PLACED
            return Outcome.IN_ARCHIVE if self._is_in_archive(result.image) else Outcome.MISSING
        if self._dry_run:
            return Outcome.NAME_TAKEN if target.exists() and not _has_same_content(source, target) else Outcome.PLACED
        return self._transfer_to(source, target)

    def _transfer_to(self, source: Path, target: Path) -> Outcome:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._transfer_file(source, target)
        except (FileExistsError, NotADirectoryError):
            return self._handle_existing(source, target)
        except OSError as error:
            if error.errno in {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}:
                return Outcome.INVALID_NAME
            if not os.access(source, os.R_OK):
                return Outcome.UNREADABLE
            raise
        if self._mode is TransferMode.MOVE:
            source.unlink()
        return Outcome.PLACED

    def _find_source(self, name: str) -> Path | None:
        """Return the regular file of this name, without links on its path; odd names are escaped."""
        for candidate in (file_names.unescape_name(name), name):
            path = self._root / candidate
            try:
                if stat.S_ISREG(path.lstat().st_mode) and path.parent.resolve().is_relative_to(self._root):
                    return path
            except (OSError, ValueError):
                continue
        return None

    def _is_in_archive(self, name: str) -> bool:
        """Return whether a file on the path of an image is an archive."""
        for candidate in (file_names.unescape_name(name), name):
            folders = [str(folder) for folder in PurePosixPath(candidate).parents][:-1]
            with contextlib.suppress(OSError, ValueError):
                if any(file_rules.is_archive(folder) and (self._root / folder).is_file() for folder in folders):
                    return True
        return False

    def _transfer_file(self, source: Path, target: Path) -> None:
        if self._mode is TransferMode.COPY:
            _copy(source, target)
            return
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            if self._mode is TransferMode.LINK:
                raise errors.BadInput(
                    f"{target} cannot be a link to {source} ({error.strerror}): use --copy.", "no_links"
                ) from None
            _copy(source, target)

    def _handle_existing(self, source: Path, target: Path) -> Outcome:
        is_move = self._mode is TransferMode.MOVE
        if is_move and target.is_symlink():  # perhaps to the image itself
            return Outcome.NAME_TAKEN
        if not _has_same_content(source, target, is_exact=is_move):
            return Outcome.NAME_TAKEN
        if is_move and not (source.samefile(target) and source.parent.samefile(target.parent)):
            # An earlier run was killed between link and unlink.
            source.unlink()
        return Outcome.ALREADY_PLACED


def _is_below(familiarity: float | None, limit: float) -> bool:
    return familiarity is not None and familiarity < limit


def safe_folder_name(label: str, reserved: Collection[str] = (UNSURE_FOLDER, FAILED_FOLDER)) -> str:
    """Return a label as a folder name that is valid on every system, and not one of the reserved names."""
    name = _UNSAFE_CHARACTERS.sub("_", label).strip(" .")[:100] or "_"
    return f"{name}_" if name in reserved else name


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically: under its name it is complete or absent.

    Raises:
        FileExistsError: the name exists.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    # The same name each time, so that the rest of a killed run is overwritten.
    temp_path = target.with_name(f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.sortbelt-part")
    try:
        shutil.copyfile(source, temp_path, follow_symlinks=False)
        shutil.copystat(source, temp_path, follow_symlinks=False)
        try:
            os.link(temp_path, target)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            temp_path.rename(target)  # a file system without links; no other process writes here
    finally:
        with contextlib.suppress(OSError):
            temp_path.unlink()


def _has_same_content(first: Path, second: Path, *, is_exact: bool = False) -> bool:
    """Compare two files; equal size and time suffice unless `is_exact`, since copies keep the time of their originals.

    Exactly means by their bytes: one of them will be deleted.
    """
    try:
        return filecmp.cmp(first, second, shallow=not is_exact)
    except OSError:
        return False
