"""Pictures put into a folder per label: never overwriting, never outside, and again without doing anything twice."""

import contextlib
import enum
import errno
import filecmp
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path, PurePosixPath

from sortbelt import errors, records

UNSURE = "unsure"
FAILED = "failed"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


class How(enum.StrEnum):
    """How a picture gets to its place."""

    COPY = "copy"  # twice the space; the original stays
    LINK = "link"  # no space: one file under two names, on one disk
    MOVE = "move"  # the original goes


class Outcome(enum.StrEnum):
    """What came of one picture."""

    PLACED = "placed"  # it is there now
    ALREADY = "already there"  # an earlier run put it there
    TAKEN = "place taken"  # another file has that name, and keeps it
    MISSING = "missing"  # its file is gone, is a link, or is no regular file
    UNSAFE = "unsafe name"  # its name leads out of the folder


class Sorter:
    """Puts the pictures of one folder into another by their results.

    Args:
        root: the folder with the pictures.
        out: the folder for the folders, made when it is needed.
        how: copy, link or move.
        min_confidence: labels less sure than this go to `unsure`.
        dry_run: whether nothing is touched.

    Raises:
        errors.BadInput: `out` is in `root`, where the next run would take its pictures for new ones.
    """

    def __init__(
        self, root: str, out: str, how: How = How.COPY, *, min_confidence: float = 0.0, dry_run: bool = False
    ) -> None:
        self._root = Path(os.path.realpath(root))
        self._out = Path(os.path.realpath(out))
        self._how = how
        self._min_confidence = min_confidence
        self._dry_run = dry_run
        if self._out.is_relative_to(self._root):
            raise errors.BadInput(
                f"{out} is inside {root}, where sorted pictures would be taken for new ones: name a folder elsewhere.",
                "bad_target",
            )

    def folder_of(self, result: records.Result) -> str:
        """The name of the folder that a picture belongs in."""
        if result.label is None:
            return FAILED
        if (result.confidence or 0.0) < self._min_confidence:
            return UNSURE
        return safe(result.label)

    def place(self, result: records.Result) -> Outcome:
        """Put one picture where it belongs.

        Raises:
            errors.BadInput: this cannot be done for any picture, such as a link to another disk.
            OSError: the disk is full, or may not be written.
        """
        name = PurePosixPath(result.image)
        if name.is_absolute() or not name.parts or ".." in name.parts or "\0" in result.image:
            return Outcome.UNSAFE
        source = self._source(result.image)
        target = self._out / self.folder_of(result) / name
        if source is None:
            return Outcome.ALREADY if self._how is How.MOVE and target.is_file() else Outcome.MISSING
        if self._dry_run:
            return Outcome.TAKEN if target.exists() and not _same(source, target) else Outcome.PLACED
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._put(source, target)
        except FileExistsError:
            return self._met(source, target)
        if self._how is How.MOVE:
            source.unlink()
        return Outcome.PLACED

    def _source(self, name: str) -> Path | None:
        """The regular file of this name, no link on the way to it; names that no UTF-8 could carry came escaped."""
        for spelt in (name, _unescaped(name)):
            path = self._root / spelt
            try:
                if stat.S_ISREG(path.lstat().st_mode) and path.parent.resolve().is_relative_to(self._root):
                    return path
            except (OSError, ValueError):
                continue
        return None

    def _put(self, source: Path, target: Path) -> None:
        if self._how is How.COPY:
            _copy(source, target)
            return
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            if self._how is How.LINK:
                raise errors.BadInput(
                    f"{target} cannot be a link to {source} ({error.strerror}): --copy does it.", "no_links"
                ) from None
            _copy(source, target)

    def _met(self, source: Path, target: Path) -> Outcome:
        if not _same(source, target):
            return Outcome.TAKEN
        if self._how is How.MOVE:  # it was killed between the link and the removal
            source.unlink()
        return Outcome.ALREADY


def safe(label: str) -> str:
    """A label as the name of a folder, on every system."""
    name = _UNSAFE.sub("_", label).strip(" .")[:100] or "_"
    return f"{name}_" if name in {UNSURE, FAILED} else name


def _copy(source: Path, target: Path) -> None:
    """Copy a file, so that under its name it is whole or not there.

    Raises:
        FileExistsError: there is something of that name.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    # The same name each time, so that what a killed run left is written over.
    draft = target.with_name(f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.sortbelt-part")
    try:
        shutil.copyfile(source, draft, follow_symlinks=False)
        shutil.copystat(source, draft, follow_symlinks=False)
        try:
            os.link(draft, target)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            draft.rename(target)  # this file system knows no links; nobody else writes here in this moment
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same; files of one size and time do, as copies have the time of their originals."""
    try:
        return filecmp.cmp(one, other, shallow=True)
    except OSError:
        return False


def _unescaped(name: str) -> str:
    try:
        return re.sub(
            r"\\(?:udc([0-9a-f]{2})|x([0-9a-f]{2}))",
            lambda m: chr(0xDC00 + int(m[1], 16)) if m[1] else chr(int(m[2], 16)),
            name.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r"),
        )
    except ValueError:
        return name
