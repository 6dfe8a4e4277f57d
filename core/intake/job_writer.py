"""Job writer: one thread writes waiting submissions in groups, with one flush of bytes and one transaction each."""

from collections.abc import Sequence
from concurrent import futures

from core import errors
from core.broker import wakeup as wakeup_broker
from core.concurrency import writer_thread
from core.db import database
from core.db.job_row import JobRow
from core.db.new_image import NewImage
from core.db.queries import jobs
from core.intake import admission
from core.storage import base

MAX_GROUP = 64  # submissions that are written together
MAX_GROUP_IMAGES = 1_000  # after which no other submission is added to a group: each waits for the whole group
MAX_BYTES = 1_000_000  # of one submission: the others of its group wait for it
Outcome = JobRow | Exception


class JobWriter:
    """Create small, sealed jobs of keys without quotas: none of them takes long, or waits for the lock of a key."""

    def __init__(
        self,
        db: database.Database,
        blob_store: base.BlobStore,
        wakeup: wakeup_broker.WakeupSender,
        admission_control: admission.AdmissionControl | None,
    ) -> None:
        self._db = db
        self._blob_store = blob_store
        self._wakeup = wakeup
        self._admission_control = admission_control
        self._thread = writer_thread.WriterThread(
            self._write, name="job writer", max_items=MAX_GROUP, weigh=_count_images, max_weight=MAX_GROUP_IMAGES
        )

    def submit(self, job: jobs.NewJob, images: Sequence[NewImage]) -> futures.Future[JobRow]:
        """Add a submission to those that are written next; return the future of its job, done when the job is on disk.

        The future raises what `SubmissionService.start_job` does.
        """
        return self._thread.submit(job.owner, (job, images))

    def _write(self, submissions: Sequence[jobs.Submission]) -> list[Outcome]:
        if self._admission_control is not None:
            self._admission_control.refresh_estimate()
        outcomes = list(self._find_repeated(submissions))
        admitted: list[int] = []
        for index, submission in enumerate(submissions):
            if outcomes[index] is None and (rejection := self._rejection(submission)) is not None:
                outcomes[index] = rejection
            elif outcomes[index] is None:
                admitted.append(index)
        if admitted:
            rows = self._store([submissions[index] for index in admitted])
            for index, row in zip(admitted, rows, strict=True):
                outcomes[index] = row
        return [outcome for outcome in outcomes if outcome is not None]

    def _find_repeated(self, submissions: Sequence[jobs.Submission]) -> list[Outcome | None]:
        """Return the jobs that exist already under the idempotency key of a submission: nothing is stored for those."""
        new_jobs = [job for job, _ in submissions]
        if all(job.idempotency_key is None for job in new_jobs):
            return [None] * len(new_jobs)
        return list(self._db.read(jobs.find_repeated, new_jobs))

    def _rejection(self, submission: jobs.Submission) -> errors.TemporarilyRejected | None:
        """Return why a submission cannot be accepted now; None if it can."""
        job, images = submission
        if self._admission_control is not None:
            try:
                self._admission_control.admit(
                    job.owner, job.key_quotas, jobs.submission_load(job, images), job.priority
                )
            except errors.TemporarilyRejected as error:
                return error
        return None

    def _store(self, submissions: Sequence[jobs.Submission]) -> Sequence[Outcome]:
        """Store bytes, then rows, then send the wake-up; in this order."""
        self._blob_store.put(
            (image.sha256, image.data) for _, images in submissions for image in images if image.data is not None
        )
        rows = self._insert(submissions)
        self._wakeup.send()
        return rows

    def _insert(self, submissions: Sequence[jobs.Submission]) -> Sequence[Outcome]:
        """Insert the rows in one transaction; if that fails, each submission in one of its own, with its own error."""
        try:
            return self._db.write(jobs.insert_jobs, submissions)
        except errors.ServiceUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (see above)
            if len(submissions) == 1:
                return [error]
        return [outcome for submission in submissions for outcome in self._insert_alone(submission)]

    def _insert_alone(self, submission: jobs.Submission) -> Sequence[Outcome]:
        try:
            return self._insert([submission])
        except errors.ServiceUnavailable as error:
            return [error]


def _count_images(submission: jobs.Submission) -> int:
    return len(submission[1])
