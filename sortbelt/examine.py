"""The first look at a folder's pictures: what is new, what only looks new, and which bytes the server has already."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sortbelt import errors, manifest, pictures
from sortbelt.client import Client

BLOCK_PICTURES = 128  # hashed before the server is asked about them: few enough that the first upload starts soon
BLOCK_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that may have to be sent, and what the manifest knows of it.

    Attributes:
        picture: as the walk found it.
        sha256: of what was sent under its name before; empty if nothing was.
        taken: whether the open job has its name already, so that other bytes cannot go there.
    """

    picture: pictures.Picture
    sha256: str = ""
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of some candidates.

    Attributes:
        new: to be sent, with their digests.
        known: the digests among those that the server has already.
        touched: files that look different but hold what they held.
        changed: files that hold something else, whose names the open job has already.
        unreadable: those that could not be read.
    """

    new: list[pictures.Picture] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    touched: list[pictures.Picture] = field(default_factory=list)
    changed: list[pictures.Picture] = field(default_factory=list)
    unreadable: list[manifest.Failure] = field(default_factory=list)


def blocks(candidates: Iterable[Candidate]) -> Iterator[Sequence[Candidate]]:
    """The candidates in groups for one question to the server each."""
    block: list[Candidate] = []
    size = 0
    for candidate in candidates:
        block.append(candidate)
        size += candidate.picture.size
        if len(block) == BLOCK_PICTURES or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


class Examiner:
    """Hashes pictures and asks the server about them; may be shared between threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._deaf = threading.Event()

    def give_up_asking(self) -> None:
        """Ask the server no more: it does not know the question."""
        self._deaf.set()

    def examine(self, block: Sequence[Candidate]) -> Examined:
        """Look at some pictures."""
        found = Examined()
        for candidate in block:
            try:
                _sort(candidate, candidate.picture.hashed(), found)
            except errors.BadInput as problem:
                found.unreadable.append(manifest.Failure(candidate.picture.name, problem.code, str(problem)))
        found.known.update(self._known([picture.sha256 for picture in found.new]))
        return found

    def _known(self, digests: list[str]) -> set[str]:
        if self._deaf.is_set() or not digests:
            return set()
        try:
            return self._client.known_blobs(digests)
        except (errors.NotFound, errors.Invalid):
            self.give_up_asking()
            return set()


def _sort(candidate: Candidate, picture: pictures.Picture, found: Examined) -> None:
    if candidate.sha256 == picture.sha256:
        found.touched.append(picture)
    elif candidate.taken:
        found.changed.append(picture)
    else:
        found.new.append(picture)
