"""The drain: claim a batch, decode it, run the CNN, commit; the next batch is decoded while this one is classified."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from jobs import bell, database, errors, settings
from jobs.store import work
from worker import classify, decoders

log = logging.getLogger(__name__)
BULK_EVERY = 8  # of so many batches one is the bulk's, however many people wait for single pictures


@dataclass(frozen=True)
class Batch:
    """Claimed images, decoded: pixels uint8 [N, height, width, 3], an outcome for each."""

    claims: list[work.Claim]
    pixels: npt.NDArray[np.uint8]
    outcomes: list[decoders.Outcome]


class Drain:
    """Works until the queue is empty, its time is up, or it is told to stop; one run at a time."""

    def __init__(
        self,
        wanted: settings.Settings,
        worker: str,
        db: database.Database,
        ringer: bell.Bell,
        pool: decoders.Decoders,
        judge: classify.Judge,
        maker: work.Maker,
    ) -> None:
        self._settings = wanted
        self._worker = worker
        self._db = db
        self._bell = ringer
        self._decoders = pool
        self._judge = judge
        self._maker = maker
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._loader = futures.ThreadPoolExecutor(1, "loader")
        self._committer = futures.ThreadPoolExecutor(1, "committer")
        self._in_hand: dict[int, work.Claim] = {}
        self._claims = 0
        self._finished = 0
        self._at_work_since: float | None = None
        self.ended_at = 0.0
        """When the last run ended, by the monotonic clock."""

    def run(self) -> None:
        """Work off the queue for a while; ring again if there is more. Returns at once if a run is under way."""
        if not self._running.acquire(blocking=False):
            return
        try:
            if self._work():
                self._bell.ring()
        finally:
            self._at_work_since = None
            self.ended_at = time.monotonic()
            self._running.release()

    def stop(self) -> None:
        """Take no new batch."""
        self._stop.set()

    def close(self) -> None:
        """Wait for the run under way to end."""
        self.stop()
        with self._running:
            self._loader.shutdown()
            self._committer.shutdown()

    def stands_still(self, seconds: float) -> bool:
        """Whether a run is under way that has got nothing done for so long."""
        since = self._at_work_since
        return since is not None and time.monotonic() - since > seconds

    def in_hand(self) -> list[work.Claim]:
        """What is claimed and has no fate yet: its leases are to be kept."""
        return list(self._in_hand.copy().values())

    def take_count(self) -> int:
        """How many images were finished since the last call."""
        count, self._finished = self._finished, 0
        return count

    def _work(self) -> bool:
        """The assembly line: load, classify, commit, each a batch ahead of the next. Returns whether there is more."""
        deadline = time.monotonic() + self._settings.drain_seconds
        loading = self._loader.submit(self._load)
        committing: futures.Future[None] | None = None
        while True:
            self._at_work_since = time.monotonic()
            batch = loading.result()
            go_on = batch is not None and time.monotonic() < deadline
            if go_on:
                loading = self._loader.submit(self._load)
            fates = self._classify(batch) if batch is not None else []
            if committing is not None:
                committing.result()
            committing = self._committer.submit(self._commit, fates)
            if not go_on:
                committing.result()
                return batch is not None

    def _load(self) -> Batch | None:
        """Claim and decode a batch; None if there is nothing to do, or if it cannot be got at now."""
        claims: list[work.Claim] = []
        try:
            self._claim(claims)
            if not claims:
                return None
            pixels, outcomes = self._decoders.decode([claim.sha256 for claim in claims])
        except errors.Unavailable as error:
            log.warning("%s", error.detail)
            self._let_go(claims, work.release)
            return None
        except Exception:
            log.exception("a batch of %d could not be decoded; it will be tried again in parts", len(claims))
            self._let_go(claims, work.drop)
            return None
        return Batch(claims, pixels, outcomes)

    def _classify(self, batch: Batch) -> list[work.Fate]:
        try:
            return self._judge.fates(batch.claims, batch.pixels, batch.outcomes)
        except Exception:
            log.exception("a batch of %d could not be classified; it will be tried again in parts", len(batch.claims))
            self._let_go(batch.claims, work.drop)
            return []

    def _claim(self, claims: list[work.Claim]) -> None:
        """Fill `claims` up to a batch; one that is not full waits a little for more."""
        size = self._settings.batch_size
        claims += self._claim_some(size)
        young = all(claim.attempt == 1 for claim in claims)
        if young and 0 < len(claims) < size and self._settings.linger_ms:
            time.sleep(self._settings.linger_ms / 1000)
            claims += self._claim_some(size - len(claims))

    def _claim_some(self, limit: int) -> list[work.Claim]:
        if self._stop.is_set():
            return []
        self._claims += 1
        claims = self._db.write(
            work.claim,
            self._worker,
            self._maker.name,
            limit=limit,
            lease_seconds=self._settings.lease_seconds,
            bulk_first=self._claims % BULK_EVERY == 0,
        )
        self._in_hand |= {claim.image_id: claim for claim in claims}
        return claims

    def _commit(self, fates: list[work.Fate]) -> None:
        if not fates:
            return
        written = self._let_go([fate.claim for fate in fates], lambda c, _: work.finish(c, fates, self._maker))
        self._finished += written or 0
        if written is not None and written < len(fates):
            log.warning("%d results came too late: the images were given to another worker", len(fates) - written)

    def _let_go(self, claims: list[work.Claim], write: Callable[[sa.Connection, list[work.Claim]], int]) -> int | None:
        """Write what becomes of claims, trying for as long as their leases may last; then they are another's anyway."""
        deadline = time.monotonic() + self._settings.lease_seconds
        try:
            while claims:
                try:
                    return self._db.write(write, claims)
                except errors.DatabaseUnavailable as error:
                    if time.monotonic() > deadline or self._stop.is_set():
                        log.error("given up on a batch: %s", error.detail)
                        break
                    log.warning("trying again: %s", error.detail)
                    time.sleep(0.5)
        except Exception:
            log.exception("the fates of %d images could not be written; they will be tried again", len(claims))
        finally:
            for claim in claims:
                self._in_hand.pop(claim.image_id, None)
        return None
