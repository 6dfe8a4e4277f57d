"""Archive walker: yield the images in a .zip or .tar file, as if it were a folder."""

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sortbelt import errors
from sortbelt.bulk.skipped_files import SkippedFiles
from sortbelt.client import image_files
from sortbelt.files import archives, file_names, file_rules


class ArchivedImage(NamedTuple):
    """Bytes of an image in an archive, read when they are needed."""

    archive_path: str
    member: archives.Member

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            errors.BadInput: the archive cannot be read, or is damaged.
        """
        try:
            with _open(self.archive_path) as file:
                return self.member.read(file, image_files.MAX_IMAGE_BYTES)
        except (OSError, archives.ArchiveError) as error:
            raise _archive_error(self.member.path, error) from None


def walk(path: str, name: str, rules: file_rules.FileRules, skipped: SkippedFiles) -> Iterator[image_files.Image]:
    """Yield the images in an archive of this file name, and count in `skipped` what is left out, by reason.

    An archive that cannot be read, or not further, is yielded as an image that is unreadable.
    """
    archive_name = file_names.escape_name(name or os.path.basename(path))  # noqa: PTH119 - a string is all that is needed
    last_skipped, mtime_ns = "", 0
    try:
        with _open(path) as file:
            info = os.fstat(file.fileno())
            mtime_ns = info.st_mtime_ns
            for member in archives.list_members(file, path, info.st_size):
                relative = f"{name}/{member.path}" if name else member.path
                part, reason = (
                    (relative, member.skip_reason) if member.skip_reason else rules.find_skipped(relative, name)
                )
                if not reason:
                    yield _to_image(path, relative, member, file, mtime_ns)
                elif part != last_skipped:
                    skipped.add(part, reason)
                last_skipped = part
    except (OSError, archives.ArchiveError) as error:
        source = image_files.Unreadable(_archive_error(archive_name, error))
        yield image_files.Image(archive_name, 0, source, mtime_ns)


def _to_image(path: str, relative: str, member: archives.Member, file: BinaryIO, mtime_ns: int) -> image_files.Image:
    name = file_names.escape_name(relative)
    source: bytes | image_files.ByteSource = ArchivedImage(path, member)
    if file_names.is_too_long(name):
        source = image_files.too_long_name(name)
    elif member.size > image_files.MAX_IMAGE_BYTES:
        message = f"{name} has {member.size:,} bytes; the maximum is {image_files.MAX_IMAGE_BYTES:,}."
        source = image_files.Unreadable(errors.BadInput(message, "too_large"))
    elif archives.is_compressed_tar(path):
        source = member.read(file, image_files.MAX_IMAGE_BYTES)
    return image_files.Image(name, member.size, source, mtime_ns)


def _open(path: str) -> BinaryIO:
    return open(os.open(path, image_files.OPEN_FLAGS), "rb")  # noqa: PTH123 - pathlib has no O_NOFOLLOW


def _archive_error(name: str, error: OSError | archives.ArchiveError) -> errors.BadInput:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return errors.BadInput(f"{name} cannot be read as an archive: {reason}. Unpack it, or --exclude it.", "bad_archive")
