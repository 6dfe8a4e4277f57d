"""Commit stage: write the outcomes of a batch."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from core.broker import job_events, job_notice
from core.db.queries import claims as claim_queries
from core.db.queries import counters, environments
from worker import batch, progress, settlement, shadow_runner, work_meter

log = logging.getLogger(__name__)


@dataclass(eq=False)
class CommitStage:
    """Write outcomes, then publish that jobs have changed, and offer the batch to shadow versions."""

    settler: settlement.ClaimSettler
    finished: progress.FinishedCounter
    work: work_meter.WorkMeter
    events: job_events.JobEvents
    shadow: shadow_runner.ShadowRunner
    environment_id: int
    environment: environments.Environment
    """Of this worker, and its id."""

    def commit(self, classified: batch.Batch) -> None:
        """Write the outcomes of a batch in one transaction; those of images whose lease was lost are not written."""
        outcomes = classified.outcomes
        if not outcomes:
            return

        def write(conn: sa.Connection, _: Sequence[claim_queries.Claim]) -> claim_queries.Completion:
            completion = claim_queries.finish(conn, outcomes, classified.loaded.model_ref, self.environment_id)
            if completion.results:
                counters.count_batch(conn, classified.flush_reason, len(classified.claims))
            return completion

        with classified.trace.span("commit"):
            completion = self.settler.settle([outcome.claim for outcome in outcomes], write)
        written = None if completion is None else len(completion.results)
        self.finished.add(written or 0)
        self.work.add(classified)
        self._publish(classified, completion)
        if written is not None and written < len(outcomes):
            log.warning("%d results came too late: their images belong to another worker", len(outcomes) - written)
        if written:
            self.shadow.offer(classified)
        classified.trace.end(classified.loaded.model_ref, classified.flush_reason, outcomes, written)

    def _publish(self, classified: batch.Batch, completion: claim_queries.Completion | None) -> None:
        """Publish that jobs have changed; the results of single images go with it."""
        notices = [] if completion is None else list(self._iter_notices(classified.claims, completion))
        self.events.publish({outcome.claim.job_id for outcome in classified.outcomes}, notices)

    def _iter_notices(
        self, claims: Sequence[claim_queries.Claim], completion: claim_queries.Completion
    ) -> Iterator[job_notice.JobNotice]:
        singles = {job.id: job for job in completion.ended_jobs if job.total == 1}
        claims_by_id = {claim.image_id: claim for claim in claims}
        for row in completion.results:
            job, claim = singles.get(row["job_id"]), claims_by_id[row["image_id"]]
            if job is not None:
                result = {
                    "name": claim.name,
                    "custom_id": claim.custom_id,
                    "worker": claim.worker,
                    **vars(self.environment),
                    **row,
                }
                yield job_notice.JobNotice(job.id, job.started_at, job.finished_at, result)
