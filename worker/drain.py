"""The drain: claim batches and decode them, run the CNN, commit; the next ones are decoded while one is classified."""

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from jobs import bell, database, errors, notices, settings, sources
from jobs.store import schema, tallies, work
from model import manifest
from worker import decoders, pace, shadows, shelf, traces

log = logging.getLogger(__name__)
REST_SECONDS = 30.0  # in which a source that did not answer is not asked again: others' pictures shall not wait for it
LEASES = 8  # times as long as a batch is to take, at least, a lease lasts
BULK_EVERY = 8  # of so many batches one is the bulk's, however many people wait for single pictures
MOST_AHEAD = 3  # batches that are decoded or wait for it, while one is classified: more would make others wait
LEAST_AHEAD = 2


@dataclass
class _Decoding:
    """A batch that is on its way through the decoders."""

    served: shelf.Served
    claims: list[work.Claim]
    decoded: futures.Future[decoders.Decoded]
    reason: tallies.Release
    trace: traces.Trace
    began: int
    """By the wall clock, in nanoseconds."""
    since: float
    """The same moment by the monotonic clock."""
    ended_at: float | None = None
    """When it came from the decoders, by the same."""

    def __post_init__(self) -> None:
        self.decoded.add_done_callback(self._note_end)

    def _note_end(self, _: object) -> None:
        self.ended_at = time.monotonic()


class Drain:
    """Works until the queue is empty, its time is up, or it is told to stop; one run at a time."""

    def __init__(
        self,
        wanted: settings.Settings,
        worker: str,
        db: database.Database,
        ringer: bell.Bell,
        pool: decoders.Decoders,
        models: shelf.Shelf,
        candidates: shadows.Shadows,
        told: notices.Notices,
        environment: int | None = None,
    ) -> None:
        self._settings = wanted
        self._environment = environment
        self._worker = worker
        self._db = db
        self._bell = ringer
        self._decoders = pool
        self._shelf = models
        self._shadows = candidates
        self._notices = told
        self._sources = sources.Sources.read(wanted.sources)
        self._resting: dict[str, float] = {}
        """Until when sources that did not answer are left alone, by the monotonic clock."""
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._loader = futures.ThreadPoolExecutor(1, "loader")
        self._committer = futures.ThreadPoolExecutor(1, "committer")
        self._in_hand: dict[int, work.Claim] = {}
        self._claims: collections.Counter[str] = collections.Counter()
        """How often something was claimed of each model."""
        self._last_model = ""
        target = min(pace.TARGET_SECONDS, wanted.lease_seconds / LEASES)
        self._paces = collections.defaultdict[str, pace.Pace](lambda: pace.Pace(target))
        """By the models."""
        self._decoded_at = 0.0
        """When the last batch came from the decoders, by the monotonic clock."""
        self._is_in_trouble = False
        """Whether something could not be decoded in this run for no fault of its own."""
        self._finished = 0
        self._at_work_since: float | None = None
        self.ended_at = 0.0
        """When the last run ended, by the monotonic clock."""

    def run(self) -> None:
        """Work off the queue for a while; ring again if there is more. Returns at once if a run is under way."""
        if not self._running.acquire(blocking=False):
            return
        try:
            self._db.read(schema.check)
            if self._work():
                self._bell.ring()
        except errors.DatabaseUnavailable as error:
            log.warning("%s", error.detail)
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
        """Whether a run is under way that has got nothing done for so long, not even one picture decoded."""
        since = self._at_work_since
        return since is not None and time.monotonic() - max(since, self._decoders.moved_at) > seconds

    def in_hand(self) -> list[work.Claim]:
        """What is claimed and has no fate yet: its leases are to be kept."""
        return list(self._in_hand.copy().values())

    def readable(self) -> list[str]:
        """The sources whose pictures this worker takes now."""
        return [name for name in self._sources.names if time.monotonic() >= self._resting.get(name, 0.0)]

    def batch_sizes(self) -> dict[str, int]:
        """How many pictures the next batch of each model may have."""
        return {name: self._size(name) for name in self._shelf.names()}

    def take_count(self) -> int:
        """How many images were finished since the last call."""
        count, self._finished = self._finished, 0
        return count

    def _work(self) -> bool:
        """Take what was lost before by itself, and all else by the assembly line. Returns whether there is more."""
        deadline = time.monotonic() + self._settings.drain_seconds
        self._is_in_trouble = False
        while time.monotonic() < deadline and not self._is_in_trouble:
            self._at_work_since = time.monotonic()
            first = self._load()
            if first is None:
                return False
            if first.claims[0].again:
                self._alone(first)
            else:
                self._line(first, deadline)
        return not self._is_in_trouble

    def _line(self, first: _Decoding, deadline: float) -> None:
        """The assembly line: load, classify, commit, each ahead of the next."""
        committing: futures.Future[None] | None = None
        for batch in self._batches(first, deadline):
            fates = self._classify(batch)
            if committing is not None:
                committing.result()
            committing = self._committer.submit(self._commit, batch, fates)
        if committing is not None:
            committing.result()

    def _batches(self, first: _Decoding, deadline: float) -> Iterator[shadows.Answered]:
        """Decoded batches, in the order in which they were claimed; while one is classified the next is decoded.

        More are claimed ahead only while the network waits for the decoders, and there is a full batch of them.
        """
        line = collections.deque([first])
        loading: futures.Future[_Decoding | None] | None = None
        is_dry = False
        while line or loading is not None:
            self._at_work_since = time.monotonic()
            if loading is not None and loading.done():
                more, loading = loading.result(), None
                is_dry = more is None  # until another is classified
                line.extend([more] if more is not None else [])
            ready = line.popleft() if line and line[0].decoded.done() else None
            wanted = not line if ready is not None else not is_dry and self._goes_ahead(line)
            if wanted and loading is None and time.monotonic() < deadline and not self._is_in_trouble:
                loading = self._loader.submit(self._load, only_new=True)
            if ready is None:
                _wait(line, loading)
            elif batch := self._decoded(ready):
                yield batch
            if self._stop.is_set():
                last = loading.result() if loading is not None else None
                for beyond in filter(None, [*line, last]):
                    self._let_go(beyond.claims, work.release)
                return

    def _goes_ahead(self, line: Sequence[_Decoding]) -> bool:
        """Whether another batch is to be claimed before the first of these is decoded."""
        if not line:
            return True
        enough = self._size(line[-1].served.maker.name) >= 2 * self._decoders.at_once
        most = LEAST_AHEAD if enough else MOST_AHEAD
        return line[-1].reason is tallies.Release.FULL and len(line) < most

    def _alone(self, first: _Decoding) -> None:
        """Nothing else is in hand: if one of these takes the process down, nobody but its company is suspected."""
        batch = self._decoded(first)
        if batch is None:
            return
        try:
            started = {claim.image_id: claim for claim in self._db.write(work.start, batch.claims)}
        except errors.Unavailable as error:
            log.warning("%s", error.detail)
            self._let_go(batch.claims, work.release)
            return
        except Exception:
            log.exception("a batch of %d could not be started; it will be tried again", len(batch.claims))
            self._let_go(batch.claims, work.drop)
            return
        self._in_hand |= started
        claims = [started.get(claim.image_id, claim) for claim in batch.claims]
        batch = replace(batch, claims=claims)
        self._commit(batch, self._classify(batch))

    def _load(self, *, only_new: bool = False) -> _Decoding | None:
        """Claim a batch and begin to decode it; None if there is nothing to do, or if it cannot be got at now."""
        claims: list[work.Claim] = []
        trace = traces.begin(self._db, self._worker, claims)
        with self._handing_back(claims):
            with trace.step("claim"):
                model, reason = self._claim(claims, only_new=only_new)
            if not claims:
                return None
            began, since = time.time_ns(), time.monotonic()
            served = self._shelf.take(model)  # whatever is promoted from now on, this batch keeps it
            readers = [self._sources.reader(claim.source, claim.location, claim.bytes) for claim in claims]
            decoded = self._decoders.begin([claim.sha256 for claim in claims], served.how, self._stop, readers)
            return _Decoding(served, claims, decoded, reason, trace, began, since)
        return None

    def _decoded(self, batch: _Decoding) -> shadows.Answered | None:
        """The batch, when it is decoded; None if nothing of it was, which ends the run."""
        with self._handing_back(batch.claims):
            with batch.trace.step("decode", batch.began):
                pixels, outcomes = batch.decoded.result()
            ended_at = batch.ended_at or time.monotonic()
            seconds = ended_at - max(batch.since, self._decoded_at)  # behind others in line its turn has not come yet
            self._decoded_at = ended_at
            if begun := self._begun(batch, pixels, outcomes):
                return replace(begun, decode_seconds=seconds)
        self._is_in_trouble = True
        return None

    @contextlib.contextmanager
    def _handing_back(self, claims: list[work.Claim]) -> Iterator[None]:
        """What cannot be got at is let go, and nothing raised."""
        try:
            yield
        except errors.SourceUnavailable as error:
            log.warning("%s (%s)", error.detail, error.reason)
            self._resting[error.source] = time.monotonic() + REST_SECONDS
            self._let_go(claims, work.release)
        except (errors.Unavailable, manifest.BadBundle) as error:
            log.warning("%s", error)
            self._let_go(claims, work.release)
        except Exception:
            log.exception("a batch of %d could not be decoded; it will be tried again in parts", len(claims))
            self._let_go(claims, work.drop)

    def _begun(
        self, batch: _Decoding, pixels: npt.NDArray[np.uint8], outcomes: Sequence[decoders.Outcome | None]
    ) -> shadows.Answered | None:
        """The batch, less what was not begun because the worker is to stop: that is handed back at once."""
        begun = [outcome for outcome in outcomes if outcome is not None]
        claims = batch.claims
        if len(begun) < len(outcomes):
            self._let_go([claim for claim, one in zip(claims, outcomes, strict=True) if one is None], work.release)
            rows = [row for row, outcome in enumerate(outcomes) if outcome is not None]
            claims, pixels = [claims[row] for row in rows], pixels[rows]
        return shadows.Answered(batch.served, claims, pixels, begun, batch.reason, batch.trace) if begun else None

    def _classify(self, batch: shadows.Answered) -> list[work.Fate]:
        began = time.monotonic()
        try:
            with batch.trace.step("forward"):
                fates = batch.served.judge.fates(batch.claims, batch.pixels, batch.outcomes)
        except Exception:
            log.exception("a batch of %d could not be classified; it will be tried again in parts", len(batch.claims))
            self._let_go(batch.claims, work.drop)
            return []
        self._learn(batch, max(batch.decode_seconds, time.monotonic() - began))
        return fates

    def _size(self, model: str) -> int:
        fixed = self._settings.batch_size
        return self._paces[model].size if fixed == "auto" else fixed

    def _learn(self, batch: shadows.Answered, seconds: float) -> None:
        """Take note of how long a batch took in the slower of its two stages."""
        if self._settings.batch_size == "auto":
            served = batch.served
            most = pace.most(batch.pixels[0].nbytes, served.judge.room)
            self._paces[served.maker.name].note(len(batch.claims), seconds, most)

    def _claim(self, claims: list[work.Claim], *, only_new: bool) -> tuple[str, tallies.Release]:
        """Fill `claims` up to a batch of one model. Returns its name, and why the batch is not larger.

        One that is not full waits for more, but only while another is being classified: the first of a run goes at
        once, for somebody may wait for it, and who waits together is together in the next.
        """
        turns = self._turns()
        sizes = {name: self._size(name) for name in turns}
        model = self._claim_some(claims, turns, sizes, only_new=only_new)
        size = sizes.get(model, 0)
        reason = tallies.Release.RETRY if claims and claims[0].again else tallies.Release.DRAIN
        if only_new and 0 < len(claims) < size and self._settings.linger_ms:
            time.sleep(self._settings.linger_ms / 1000)
            self._claim_some(claims, {model: False}, {model: size - len(claims)}, only_new=True)
            reason = tallies.Release.LINGER
        full = len(claims) == size and reason is not tallies.Release.RETRY
        return model, tallies.Release.FULL if full else reason

    def _turns(self) -> dict[str, bool]:
        """The models in turn, beginning after the last one, and for each whether its bulk goes first."""
        names = self._shelf.names()
        names = [name for name in names if name > self._last_model] + [n for n in names if n <= self._last_model]
        return {name: (self._claims[name] + 1) % BULK_EVERY == 0 for name in names}

    def _claim_some(
        self, claims: list[work.Claim], turns: dict[str, bool], limits: dict[str, int], *, only_new: bool
    ) -> str:
        if self._stop.is_set():
            return ""
        model, more = self._db.write(
            work.claim_one_of,
            self._worker,
            turns,
            limits=limits,
            lease_seconds=self._settings.lease_seconds,
            only_new=only_new,
            sources=self.readable(),
        )
        self._in_hand |= {claim.image_id: claim for claim in more}
        claims += more
        if model:
            self._claims[model] += 1
            self._last_model = model
        return model

    def _commit(self, batch: shadows.Answered, fates: list[work.Fate]) -> None:
        if not fates:
            return

        def write(c: sa.Connection, _: Sequence[work.Claim]) -> int:
            written = work.finish(c, fates, batch.served.maker, self._environment)
            if written:
                tallies.add_batch(c, batch.reason, len(batch.claims))
            return written

        with batch.trace.step("commit"):
            written = self._let_go([fate.claim for fate in fates], write)
        self._finished += written or 0
        self._notices.tell({fate.claim.job_id for fate in fates})
        if written is not None and written < len(fates):
            log.warning("%d results came too late: the images were given to another worker", len(fates) - written)
        if written:
            self._shadows.offer(batch)
        batch.trace.end(batch.served.maker, batch.reason, fates, written)

    def _let_go(
        self, claims: Sequence[work.Claim], write: Callable[[sa.Connection, Sequence[work.Claim]], int]
    ) -> int | None:
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


def _wait(line: Sequence[_Decoding], loading: futures.Future[_Decoding | None] | None) -> None:
    """Until the first batch is decoded, or another one is claimed."""
    either: list[futures.Future[Any]] = [batch.decoded for batch in line][:1]
    futures.wait(either + ([loading] if loading is not None else []), return_when=futures.FIRST_COMPLETED)
