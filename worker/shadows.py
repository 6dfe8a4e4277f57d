"""Shadows: candidates that judge a share of what the live model has answered already, and have no say.

They are offered a batch when its results are committed, work in a thread of their own that gives way to the live one,
and write into a table of their own. What they cannot keep up with is dropped.
"""

import contextlib
import hashlib
import logging
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs import blobs, database, sources
from jobs.store import models, shadows, tallies, work
from model import preprocess
from worker import classify, decoders, shelf, traces

log = logging.getLogger(__name__)
MOST_WAITING = 8  # batches; more would only hold memory
MOST_AT_ONCE = 16  # pictures, so that the live network keeps the device's memory
NICENESS = 10


@dataclass(frozen=True)
class Answered:
    """What the live model has answered: pixels uint8 [N, height, width, 3] of its kind, an outcome for each claim."""

    served: shelf.Served
    claims: Sequence[work.Claim]
    pixels: npt.NDArray[np.uint8]
    outcomes: Sequence[decoders.Outcome]
    reason: tallies.Release = tallies.Release.FULL
    """Why it was not larger."""
    trace: traces.Trace = traces.OFF
    decode_seconds: float = 0.0
    """How long the decoders were at it, by the clock on the wall."""

    def part(self, rows: Sequence[int]) -> "Answered":
        """Some rows of it, as copies."""
        claims, outcomes = [self.claims[row] for row in rows], [self.outcomes[row] for row in rows]
        return Answered(self.served, claims, self.pixels[list(rows)], outcomes)


class Shadows:
    """One thread, and what waits for it."""

    def __init__(
        self,
        db: database.Database,
        served: shelf.Shelf,
        store: blobs.Blobs,
        limits: decoders.Limits,
        listed: sources.Sources = sources.NONE,
    ) -> None:
        self._db = db
        self._shelf = served
        self._store = store
        self._limits = limits
        self._sources = listed
        self._pool: decoders.Decoders | None = None
        """One decoder, started for the first shadow that sees its pictures otherwise than the live model."""
        self._waiting: queue.Queue[tuple[models.Version, Answered] | None] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self.dropped = 0
        """How many pictures were not judged because the shadows could not keep up."""
        self._thread = threading.Thread(target=self._work, name="shadows", daemon=True)
        self._thread.start()

    def offer(self, answered: Answered) -> None:
        """Let the shadows of its model judge their share of a batch, later; returns at once, and never fails."""
        try:
            for version in self._shelf.shadows(answered.served.maker.name):
                rows = [
                    row for row, claim in enumerate(answered.claims) if chosen(claim.image_id, version.share or 0.0)
                ]
                rows = [row for row in rows if answered.outcomes[row].error is None]
                if rows:
                    self._queue(version, answered.part(rows))
        except Exception:
            log.exception("a batch could not be offered to the shadows")

    def close(self) -> None:
        """Drop what waits, and end with the batch at hand, if that is soon."""
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(5)
        if self._pool is not None and not self._thread.is_alive():
            self._pool.close()

    def _queue(self, version: models.Version, answered: Answered) -> None:
        try:
            self._waiting.put_nowait((version, answered))
        except queue.Full:
            if not self.dropped:
                log.warning("%s cannot keep up as a shadow; some pictures are left out", version.title)
            self.dropped += len(answered.claims)

    def _work(self) -> None:
        # Linux keeps a niceness for each thread; those that compute for this one are its children.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (some := self._waiting.get()) is not None and not self._stop.is_set():
            version, answered = some
            try:
                self._judge(version, answered)
            except Exception as error:
                log.warning("%s failed as a shadow of %d pictures", version.title, len(answered.claims), exc_info=True)
                self._fail(version, answered, error)

    def _judge(self, version: models.Version, answered: Answered) -> None:
        served = self._shelf.open(version)
        pixels, outcomes = answered.pixels, answered.outcomes
        if _kind(served.how) != _kind(answered.served.how):
            self._pool = self._pool or decoders.Decoders(1, served.how, self._store, self._limits)
            self._pool.follow(served.how)
            claims = answered.claims
            readers = [self._sources.reader(claim.source, claim.location, claim.bytes) for claim in claims]
            pixels, found = self._pool.decode([claim.sha256 for claim in claims], readers=readers)
            outcomes = [outcome for outcome in found if outcome is not None]  # none is left: nobody stops it
        judge = classify.Judge(served.judge.network)  # with a memory of its own for what was too much
        judge.most = min(judge.most, MOST_AT_ONCE)
        fates = judge.fates(answered.claims, pixels, outcomes)
        self._db.write(shadows.write, version.id, fates)

    def _fail(self, version: models.Version, answered: Answered, error: Exception) -> None:
        """Count what a shadow could not judge, if that can be written down."""
        reason = f"{type(error).__name__}: {error}"[:1000]
        fates = [work.Fate(claim, error_code="shadow_failed", error_detail=reason) for claim in answered.claims]
        with contextlib.suppress(Exception):
            self._db.write(shadows.write, version.id, fates)


def chosen(image_id: int, share: float) -> bool:
    """Whether an image belongs to the share that shadows judge; it belongs to every larger share too."""
    head = hashlib.sha256(str(image_id).encode()).digest()[:8]
    return int.from_bytes(head) < share * 2**64


def _kind(how: preprocess.Preprocess) -> tuple[object, ...]:
    """What decides about pixels; mean and deviation come later, on the device."""
    return how.width, how.height, how.resample
