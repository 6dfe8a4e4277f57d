"""The pace: how fast batches of a model get through, and so how large the next may be.

Whoever sends a single picture waits until the batches before it are through, so none shall take long; and a large one
is cheaper, for what a batch costs whatever its size is shared by more pictures. So a batch has as many pictures as were
seen to get through the slowest stage of the assembly line in a target time (decision 23).
"""

import collections
import statistics

TARGET_SECONDS = 0.25  # that a batch may take in the slowest stage
FIRST = 64  # before anything is known
LEAST, MOST = 16, 1024  # of fewer a picture costs a CPU a tenth more
GRAIN = 8  # sizes are multiples of it: a network lays its weights out anew for a shape that it has not seen yet
MOST_BYTES = 96_000_000  # of the pixels of one batch; up to three are in memory, with a copy each
LATELY = 5  # batches, of whose paces the middle one counts: two that were held up change nothing
STEP = 2


def most(picture_bytes: int, device: int) -> int:
    """How many pictures of so many bytes a batch may have, where the device takes so many at once."""
    return max(1, min(MOST, MOST_BYTES // picture_bytes, device))


class Pace:
    """The pace of one model on one worker."""

    def __init__(self, target: float = TARGET_SECONDS) -> None:
        self._target = target
        self._lately: collections.deque[float] = collections.deque(maxlen=LATELY)
        """Seconds a picture, of the last batches that told anything."""
        self.size = FIRST
        """How many pictures the next batch may have."""

    def note(self, pictures: int, seconds: float, most: int = MOST) -> None:
        """Learn from a batch: how long its slowest stage took, and how many may be in one at all.

        A small batch that was quick says nothing about large ones: it is mostly overhead.
        """
        if STEP * pictures >= self.size or seconds > self._target:
            self._lately.append(seconds / pictures)
            fitting = self._target / max(statistics.median(self._lately), 1e-9)
            wanted = max(self.size // STEP, min(round(fitting / GRAIN) * GRAIN, self.size * STEP))
            self.size = max(wanted, LEAST)
        self.size = min(self.size, most)
