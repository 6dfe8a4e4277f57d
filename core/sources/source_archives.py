"""Archives in sources: their images are listed with their bytes, since a worker could not read them in place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from core.sources import base
from sortbelt.files import archives, file_names
from sortbelt.files.file_rules import FileRules

UNREADABLE_ARCHIVE, CHANGED_ARCHIVE, NAME_TOO_LONG = "unreadable archive", "changed archive", "name too long"


@dataclass(frozen=True)
class OpenArchive:
    """An archive that is open: its path in the source, as a file name, and its size in bytes."""

    file: BinaryIO
    path: str
    size: int


def list_images(archive: OpenArchive, rules: FileRules, after: str, *, max_bytes: int) -> Iterator[base.SourceEntry]:
    """List the files in an archive from beyond the member `after`, images with at most `max_bytes` and one more.

    An archive that cannot be read, or not further, is listed as a file that is left out.
    """
    last_skipped = ""
    is_beyond = not after
    try:
        for member in archives.list_members(archive.file, archive.path, archive.size):
            path = f"{archive.path}/{member.path}"
            part, reason = (path, member.skip_reason) if member.skip_reason else rules.find_skipped(path, archive.path)
            if is_beyond and (not reason or part != last_skipped):
                yield _to_entry(archive, member, file_names.escape_name(part or path), reason, max_bytes)
            last_skipped = part
            is_beyond = is_beyond or after in (member.path, part[len(archive.path) + 1 :])
        if not is_beyond:
            yield base.SourceEntry(file_names.escape_name(archive.path), archive.size, CHANGED_ARCHIVE)
    except archives.ArchiveError:
        yield base.SourceEntry(file_names.escape_name(archive.path), archive.size, UNREADABLE_ARCHIVE)


def _to_entry(
    archive: OpenArchive, member: archives.Member, path: str, reason: str, max_bytes: int
) -> base.SourceEntry:
    if not reason and file_names.is_too_long(path):
        reason = NAME_TOO_LONG
    data = None if reason or member.size > max_bytes else member.read(archive.file, max_bytes + 1)
    return base.SourceEntry(path, member.size, reason, data)
