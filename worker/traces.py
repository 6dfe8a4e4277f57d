"""Traces of batches: a batch holds many people's pictures, so it is a trace of its own, linked to those of its jobs."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from jobs import database, errors, tracing
from jobs.store import jobs, tallies, work

log = logging.getLogger(__name__)


class Trace:
    """What is kept of a batch until it is over; this one keeps nothing."""

    def step(self, _name: str, _began: int | None = None) -> AbstractContextManager[None]:
        """Something that is done with the whole batch, and has begun now, or at this moment in nanoseconds."""
        return contextlib.nullcontext()

    def end(self, maker: work.Maker, reason: tallies.Release, fates: Sequence[work.Fate], written: int | None) -> None:
        """Tell of it: how many results were written, None if they could not be."""


OFF = Trace()


def begin(db: database.Database, worker: str, claims: list[work.Claim]) -> Trace:
    """The trace of a batch whose claims are about to come into this list; of one that has none, nothing is told."""
    return _Kept(db, worker, claims) if tracing.is_on() else OFF


class _Kept(Trace):
    def __init__(self, db: database.Database, worker: str, claims: list[work.Claim]) -> None:
        self._db = db
        self._worker = worker
        self._claims = claims
        self._steps: list[tracing.Step] = []

    @contextlib.contextmanager
    def step(self, name: str, began: int | None = None) -> Iterator[None]:
        began, error = began or time.time_ns(), None
        try:
            yield
        except Exception as caught:
            error = type(caught).__name__
            raise
        finally:
            about = {"sortbelt.batch.size": len(self._claims)}
            self._steps.append(tracing.Step(name, began, time.time_ns(), about, error))
            if error is not None:
                self._tell({}, error)

    def end(self, maker: work.Maker, reason: tallies.Release, fates: Sequence[work.Fate], written: int | None) -> None:
        model = {"sortbelt.model": maker.name, "sortbelt.model.version": maker.version or ""}
        failed = sum(fate.error_code is not None for fate in fates)
        counts = {"sortbelt.batch.failed": failed, "sortbelt.batch.written": written or 0}
        self._tell(
            {**model, **counts, "sortbelt.batch.reason": reason.value}, "not written" if written is None else None
        )

    def _tell(self, about: dict[str, str | int], error: str | None) -> None:
        """Whatever goes wrong here is nothing to the batch."""
        job_ids = sorted({claim.job_id for claim in self._claims})
        if not job_ids:
            return
        try:
            known = self._db.read(jobs.traceparents, job_ids[: tracing.MOST_LINKS])
        except errors.DatabaseUnavailable:
            known = {}
        except Exception:
            log.exception("a batch could not be traced")
            return
        about |= {"sortbelt.batch.size": len(self._claims), "sortbelt.batch.jobs": len(job_ids)}
        about |= {"sortbelt.worker": self._worker}
        whole = tracing.Step("batch", self._steps[0].began, self._steps[-1].ended, about, error)
        tracing.record(whole, self._steps, known)
