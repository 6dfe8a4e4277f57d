"""Batch pipeline: claim images, decode them, classify them, commit the outcomes.

The stages overlap: while the network classifies one batch, the next ones are claimed and decoded, and the one before
is committed.
"""

import logging
import math
import threading
import time
from concurrent import futures

from core import errors, settings
from core.broker import job_events, wakeup
from core.db import database, revision
from core.db.queries import environments
from core.sources import catalog
from worker import (
    batch,
    batch_sizer,
    fair_share,
    lease_table,
    prefetch,
    prefetch_policy,
    progress,
    settlement,
    shadow_runner,
    source_cooldown,
    work_meter,
)
from worker.decoding import decoder_pool
from worker.models import model_manager
from worker.stages import claim, classify, commit, decode

SCHEMA_CHECK_SECONDS = 1.0  # at most so long after a check that the tables fit, a run begins

log = logging.getLogger(__name__)


class BatchPipeline:
    """Work until the queue is empty, the time of a run is up, or the worker stops; one run at a time."""

    def __init__(
        self,
        worker_settings: settings.Settings,
        worker_id: str,
        db: database.Database,
        wakeup_sender: wakeup.WakeupSender,
        pool: decoder_pool.DecoderPool,
        manager: model_manager.ModelManager,
        shadow: shadow_runner.ShadowRunner,
        events: job_events.JobEvents,
        environment_id: int,
        environment: environments.Environment,
    ) -> None:
        self._task_seconds = worker_settings.task_seconds
        self._db = db
        self._wakeup_sender = wakeup_sender
        self._run_lock = threading.Lock()
        self._schema_checked_at = -math.inf
        self._stop = stop = threading.Event()
        self._committer = futures.ThreadPoolExecutor(1, "committer")
        self.leases = leases = lease_table.LeaseTable()
        self.monitor = progress.RunMonitor(lambda: pool.last_progress_at)
        self.finished = progress.FinishedCounter()
        self.work = work_meter.WorkMeter()
        self.sizers = sizers = batch_sizer.BatchSizers(worker_settings.batch_size, worker_settings.lease_seconds)
        source_catalog = catalog.SourceCatalog.parse(worker_settings.sources)
        self.sources = sources = source_cooldown.SourceCooldown(source_catalog.names)
        self._settler = settler = settlement.ClaimSettler(db, leases, sources, worker_settings.lease_seconds, stop)
        shares = fair_share.FairShare(worker_settings.decoder_processes)
        self._claim_stage = claim.ClaimStage(
            worker_settings, worker_id, db, manager, sizers, sources, leases, settler, shares, stop
        )
        decode_stage = decode.DecodeStage(pool, source_catalog, settler, shares, stop)
        policy = prefetch_policy.PrefetchPolicy(sizers, shares, pool.capacity)
        self._prefetcher = prefetch.Prefetcher(self._claim_stage, decode_stage, policy, settler, self.monitor, stop)
        self._classify_stage = classify.ClassifyStage(sizers, settler)
        self._commit_stage = commit.CommitStage(
            settler, self.finished, self.work, events, shadow, environment_id, environment
        )

    def run(self) -> None:
        """Work for at most `task_seconds`; send a wake-up if more is queued. Return at once if a run is under way."""
        if not self._run_lock.acquire(blocking=False):
            return
        try:
            self._check_schema()
            if self._run_until_deadline():
                self._wakeup_sender.send()
        except errors.DatabaseUnavailable as error:
            log.warning("a run ended early; the next one follows: %s", error.detail)
        except BaseException:
            self._settler.release(self.leases.snapshot())  # else the heartbeat would extend them without end
            raise
        finally:
            self.monitor.record_end()
            self._run_lock.release()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait for the current run to end."""
        self.stop()
        with self._run_lock:
            self._prefetcher.close()
            self._committer.shutdown()

    def _check_schema(self) -> None:
        """Check that the tables fit this program, unless a run has just done so: it takes as long as a claim.

        Raises:
            errors.DatabaseUnavailable: they do not.
        """
        now = time.monotonic()
        if now - self._schema_checked_at >= SCHEMA_CHECK_SECONDS:
            self._db.read(revision.check_existing)
            self._schema_checked_at = now

    def _run_until_deadline(self) -> bool:
        """Process batch after batch; return whether more may be queued."""
        deadline = time.monotonic() + self._task_seconds
        self._prefetcher.decode_failed = False
        while time.monotonic() < deadline and not self._prefetcher.decode_failed:
            self.monitor.record_progress()
            first = self._prefetcher.next_batch()
            if first is None:
                return False
            if first.claims[0].was_lost:
                self._run_isolated(first)
            else:
                self._run_pipelined(first, deadline)
        return not self._prefetcher.decode_failed

    def _run_isolated(self, suspect: batch.Batch) -> None:
        """Process a suspect batch while no other is claimed: if the worker crashes, only these images are to blame."""
        if self._prefetcher.collect(suspect) and self._claim_stage.begin_attempt(suspect):
            self._classify(suspect)
            self._commit_stage.commit(suspect)

    def _run_pipelined(self, first: batch.Batch, deadline: float) -> None:
        """Process batches until the deadline, each stage working on another one."""
        commit_future: futures.Future[None] | None = None
        for decoded in self._prefetcher.decoded_batches(first, deadline):
            self._classify(decoded)
            if commit_future is not None:
                commit_future.result()
            commit_future = self._committer.submit(self._commit_stage.commit, decoded)
        if commit_future is not None:
            commit_future.result()

    def _classify(self, decoded: batch.Batch) -> None:
        with self.monitor.classifying():
            self._classify_stage.classify(decoded)
