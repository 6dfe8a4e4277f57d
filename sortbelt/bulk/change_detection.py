"""Change detection: read and hash candidate images, and ask the server which bytes it has already."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sortbelt import errors
from sortbelt.bulk import run_manifest
from sortbelt.client import image_files
from sortbelt.client.sync_client import Client

BLOCK_IMAGES = 128  # per lookup on the server: few enough that the first upload starts soon
BLOCK_BYTES = 8_000_000  # read at a time, and kept until they are sent
MAX_KEPT_BYTES = 1_000_000  # of an image; a larger one is read again when it is sent
MAX_SKIPPED_LOOKUPS = 3  # in a row: so many blocks of known images at most are sent again


class Candidate(NamedTuple):
    """Image that may have to be sent, with its manifest entry.

    Attributes:
        image: as the walk found it.
        sha256: digest of the bytes sent under this name before; empty if there are none.
        job_sha256: digest of the bytes that the open job has under this name, or may have: it accepts no others.
    """

    image: image_files.Image
    sha256: str = ""
    job_sha256: str = ""


@dataclass
class ChangeSet:
    """Outcome for a block of candidates.

    Attributes:
        new: images to send, with their digests, and with their bytes if they are small.
        known_digests: those of their digests that the server has already.
        touched: files with another size or time, but the same bytes.
        changed: files with other bytes whose names the open job has already.
        unreadable: files that could not be read.
    """

    new: list[image_files.Image] = field(default_factory=list)
    known_digests: set[str] = field(default_factory=set)
    touched: list[image_files.Image] = field(default_factory=list)
    changed: list[image_files.Image] = field(default_factory=list)
    unreadable: list[run_manifest.FailedImage] = field(default_factory=list)


def blocks(candidates: Iterable[Candidate]) -> Iterator[Sequence[Candidate]]:
    """Group candidates into blocks, one lookup on the server each."""
    return image_files.grouped(candidates, lambda candidate: candidate.image.size, BLOCK_IMAGES, BLOCK_BYTES)


class ChangeDetector:
    """Hash images and look them up on the server. Thread-safe.

    A folder of which the server has nothing is asked about ever more seldom: after each lookup without a known image,
    twice as many blocks are sent without one. A run that goes on with an earlier one always asks: what that one had
    sent when it was interrupted is known to the server only.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lookup_disabled = threading.Event()
        self._lock = threading.Lock()
        self._skipped, self._to_skip = 0, 0
        self._max_to_skip = MAX_SKIPPED_LOOKUPS

    def always_look_up(self) -> None:
        """Ask about every block."""
        self._max_to_skip = 0

    def disable_lookup(self) -> None:
        """Stop lookups: the server does not support them."""
        self._lookup_disabled.set()

    def detect(self, block: Sequence[Candidate]) -> ChangeSet:
        """Sort a block of candidates by what has to be done with them."""
        change_set = ChangeSet()
        for candidate in block:
            try:
                _categorize(candidate, _read(candidate.image), change_set)
            except errors.BadInput as problem:
                change_set.unreadable.append(run_manifest.FailedImage(candidate.image.name, problem.code, str(problem)))
        change_set.known_digests.update(self._lookup_known([image.sha256 for image in change_set.new]))
        return change_set

    def _lookup_known(self, digests: list[str]) -> set[str]:
        if self._lookup_disabled.is_set() or not digests or self._skips_lookup():
            return set()
        try:
            known = self._client.known_blobs(digests)
        except (errors.NotFound, errors.InvalidRequest):
            self.disable_lookup()
            return set()
        with self._lock:
            self._to_skip = 0 if known else min(2 * self._to_skip + 1, self._max_to_skip)
        return known

    def _skips_lookup(self) -> bool:
        with self._lock:
            self._skipped = self._skipped + 1 if self._skipped < self._to_skip else 0
            return self._skipped > 0


def _read(image: image_files.Image) -> image_files.Image:
    return image.with_bytes() if image.size <= MAX_KEPT_BYTES else image.with_digest()


def _categorize(candidate: Candidate, image: image_files.Image, change_set: ChangeSet) -> None:
    if candidate.sha256 == image.sha256:
        change_set.touched.append(image)
    elif candidate.job_sha256 not in ("", image.sha256):
        change_set.changed.append(image)
    else:
        change_set.new.append(image)
