"""Image sources: folders of the server and prefixes of buckets whose images are classified in place.

Only what the settings list is a source. Sources are never written to; no symbolic link is followed, and only regular
files are read, even if the folder changes meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sortbelt.files.file_names import MAX_NAME_LENGTH
from sortbelt.files.file_rules import FileRules

LISTING_CHUNK = 10_000  # names of one folder in memory


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A file of a source, or a folder or archive that is not entered."""

    path: str
    """Relative to the source, and escaped (`file_names`): the name of the image."""
    size: int
    skip_reason: str = ""
    """Why it is left out; empty for an image."""
    data: bytes | None = None
    """The bytes of an image in an archive, which are not read by `read`."""

    @property
    def is_position(self) -> bool:
        """Whether a walk can be continued after this path: it is short enough to be stored."""
        return len(self.path) <= MAX_NAME_LENGTH


class Source(Protocol):
    """One source, under the name by which callers know it."""

    name: str
    address: str
    """Where it is; for admins only."""
    concurrency: int
    """How many threads should read from it: the longer a file takes to arrive, the more."""

    def walk(self, prefix: str, rules: FileRules, after: str | None = None, *, max_bytes: int) -> Iterator[SourceEntry]:
        """List the files below a prefix from beyond the path `after`, always in one order, with those left out.

        Images in archives come with their bytes: at most `max_bytes` and one more.

        Raises:
            errors.SourcePathNotFound: the prefix does not exist, or cannot be listed.
            errors.SourceUnavailable: the source does not answer.
        """

    def check(self) -> None:
        """Check that the source can be listed, by its first entries only.

        Raises:
            errors.SourceAccessDenied: the source denies access.
            errors.SourceUnavailable: the source does not answer.
        """

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return the bytes of a file; at most `max_bytes` and one more.

        Raises:
            errors.BlobMissing: the file does not exist, or is not a regular file.
            errors.SourceReadError: the disk has an error, or denies access, to this file or to all.
            errors.SourceUnavailable: the source does not answer.
        """
