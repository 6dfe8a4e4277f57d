"""The room: how many bytes of bodies that are coming in are in our memory, in all and of each sender."""

from collections import Counter

MOST_BYTES = 512_000_000
SHARES = 4  # nobody takes more than one of them, unless a single body may be larger
MOST_SMALL_BYTES = 32_000_000  # of all bodies together that are kept without asking whose they are
ANYBODY = ""


class Full(Exception):
    """Too much is being sent at once."""


class Room:
    """All the room; of one event loop."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()

    def of(self, key: str, most_bytes: int) -> "Place":
        """A place for a body of at most `most_bytes`, in the share of its key."""
        return Place(self, key, max(MOST_BYTES // SHARES, most_bytes))

    def small(self, size: int) -> "Place":
        """A place for a small body of anybody, reserved as a whole, so that whoever was let in is not turned away.

        Raises:
            Full: such bodies hold all that they may.
        """
        place = Place(self, ANYBODY, MOST_SMALL_BYTES)
        place.hold(size)
        return place


class Place:
    """What one request holds of it."""

    def __init__(self, room: Room, sender: str, share: int) -> None:
        self._room = room
        self._sender = sender
        self._share = share
        self._held = 0

    def hold(self, size: int) -> None:
        """Hold so many bytes, if it is less by now.

        Raises:
            Full: they are more than this sender's share, or than there is room for.
        """
        more = max(0, size - self._held)
        held = self._room.held
        if more and (held[self._sender] + more > self._share or held.total() + more > MOST_BYTES):
            raise Full
        held[self._sender] += more
        self._held += more

    def leave(self) -> None:
        """Hold nothing any more."""
        self._room.held[self._sender] -= self._held
        if not self._room.held[self._sender]:
            del self._room.held[self._sender]
        self._held = 0
