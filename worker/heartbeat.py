"""Heartbeat: extend leases, report this worker as alive, requeue expired leases, end a worker that is stuck.

It also ends the leases of dead workers (`worker/dead_workers.py`).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from core import errors, settings
from core.broker import wakeup
from core.db import database, revision
from core.db.queries import claims as claim_queries
from core.db.queries import workers
from core.intake import admission
from core.maintenance import reaper
from worker import dead_workers, pid_namespace, pipeline
from worker.decoding import decoder_pool
from worker.models import model_manager

log = logging.getLogger(__name__)
WATCHDOG_EXIT_CODE = 70
STOP_TIMEOUT_SECONDS = 20.0  # without progress while the worker stops; supervisors kill it after 30
FINAL_WRITE_SECONDS = 3.0
CHECK_INTERVAL_SECONDS = 0.5  # between two checks whether a worker in this PID namespace has died


class Heartbeat:
    """The thread of a worker's heartbeat; it runs until `close`, which is called after the last batch."""

    def __init__(
        self,
        worker_settings: settings.Settings,
        worker_id: str,
        db: database.Database,
        wakeup_sender: wakeup.WakeupSender,
        pool: decoder_pool.DecoderPool,
        manager: model_manager.ModelManager,
        batch_pipeline: pipeline.BatchPipeline,
        stop: threading.Event,
    ) -> None:
        self._settings = worker_settings
        self._worker_id = worker_id
        self._default_quotas = admission.default_quotas(worker_settings)
        self._db = db
        self._wakeup_sender = wakeup_sender
        self._decoder_pool = pool
        self._model_manager = manager
        self._pipeline = batch_pipeline
        self._stop = stop
        """Set while the worker stops."""
        self._closed = threading.Event()
        self._dead_workers = dead_workers.DeadWorkers(db, pid_namespace.name())
        self._last_progress_at = time.monotonic()
        threading.Thread(target=self._loop, name="heartbeat", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _loop(self) -> None:
        seconds = min(self._settings.lease_seconds / 4, 5.0)
        while True:  # at once for the first time: a worker that follows a dead one takes over its images
            if self._pipeline.monitor.is_stalled(timeout := self._stall_timeout()):
                # Else it waits for a disk, and the images are not the cause.
                is_classifying = self._pipeline.monitor.is_classifying
                self._abort(timeout, claim_queries.abandon if is_classifying else claim_queries.release)
            try:
                self._beat()
            except errors.DatabaseUnavailable as error:
                self._last_progress_at = time.monotonic()  # no worker makes progress without it
                log.warning("a heartbeat failed; the next one follows: %s", error.detail)
            except Exception:
                log.exception("a heartbeat failed; the next one follows")
            if self._wait(seconds):
                return

    def _wait(self, seconds: float) -> bool:
        """Wait for the next heartbeat, or until another worker dies; return whether this thread ends."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._dead_workers.poll():
            if self._closed.wait(min(CHECK_INTERVAL_SECONDS, left)):
                return True
        return False

    def _stall_timeout(self) -> float:
        """Return how many seconds without progress are too many."""
        timeout = self._settings.watchdog_seconds
        return min(timeout, STOP_TIMEOUT_SECONDS) if self._stop.is_set() else timeout

    def _beat(self) -> None:
        claims = self._pipeline.leases.snapshot()
        self._db.write(claim_queries.extend_lease, claims, lease_seconds=self._settings.lease_seconds)
        self._db.read(revision.check)
        self._report(has_claims=bool(claims))
        self._pipeline.work.charge(self._db, self._default_quotas)
        self._dead_workers.end_leases()
        requeued = reaper.reap(
            self._db, max_attempts=self._settings.max_attempts, open_job_days=self._settings.open_job_days
        )
        if requeued:
            self._wakeup_sender.send()

    def _report(self, *, has_claims: bool) -> None:
        """Record the images finished since the last heartbeat; abort if images wait, and none progresses for long."""
        finished_count, now = self._pipeline.finished.take(), time.monotonic()
        has_work = has_claims or self._db.read(
            claim_queries.has_queued, self._model_manager.model_names(), self._pipeline.sources.available()
        )
        has_decoded = self._decoder_pool.last_progress_at > self._last_progress_at
        is_progressing = bool(finished_count) or has_decoded or not has_work
        self._db.write(
            workers.heartbeat,
            self._worker_id,
            finished_count,
            has_progress=is_progressing,
            batch_sizes={name: self._pipeline.sizers.size(name) for name in self._model_manager.model_names()},
        )
        if is_progressing or self._stop.is_set():
            self._last_progress_at = now
        elif now - self._last_progress_at > self._settings.watchdog_seconds:
            self._abort(self._settings.watchdog_seconds, claim_queries.release)

    def _abort(self, timeout: float, settle: Callable[[sa.Connection, Sequence[claim_queries.Claim]], int]) -> None:
        """End this process, whatever it is blocked in, after giving up its claims by `settle`."""
        log.critical("no progress for %g s: this worker ends itself", timeout)
        claims = self._pipeline.leases.snapshot()
        final_write = threading.Thread(target=self._db.write, args=(settle, claims), daemon=True)
        final_write.start()
        final_write.join(FINAL_WRITE_SECONDS)
        os._exit(WATCHDOG_EXIT_CODE)
