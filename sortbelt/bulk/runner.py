"""Bulk run: send a folder as one job, and resume where an earlier run stopped."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sortbelt import errors
from sortbelt.bulk import change_detection, parallel, run_manifest, uploader, walker
from sortbelt.client import image_files, responses
from sortbelt.client.sync_client import Client

UPLOAD_THREADS = 3  # enough to keep the server busy while the next images are read
HASH_THREADS = 2
MIN_FAILURE_SAMPLE = 20  # images before the failure rate is meaningful
MIN_FILE_AGE_SECONDS = 2.0  # a younger file may still be written to
MIN_POLL_SECONDS = 1.0
WALK_REST_FACTOR = 10  # a watching run pauses this many times as long as its walk took
FAILURE_BATCH_SIZE = 500  # per transaction of the manifest
RESULT_PAGE_SIZE = 200  # results in memory at a time


@dataclass
class LabelSummary:
    """Number of images per label, and of images without one."""

    labels: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def count_label(self, result: responses.Result) -> bool:
        """Count the result's label; return whether it has one."""
        if result.label is not None:
            self.labels[result.label] += 1
        return result.label is not None


@dataclass
class RunStats:
    """Image counts of a run.

    Attributes:
        sent: added to the job.
        by_reference: of these, without an upload.
        unchanged: already sent by earlier runs.
        changed: changed after they were sent to the open job, and not sent again.
        not_sent: unreadable, or rejected by the server.
        missing: sent, but not in the job, which had other images of the same names.
    """

    sent: int = 0
    by_reference: int = 0
    unchanged: int = 0
    changed: int = 0
    not_sent: int = 0
    missing: int = 0


class RunOptions(NamedTuple):
    """Options of a run.

    Attributes:
        model: the model to use, else the server's default.
        priority: `interactive` or `bulk`.
        retry_failed: whether to send again the images that failed before.
        max_failure_rate: share of failures, from 0 to 1, beyond which the run stops.
        webhook: URL that gets a webhook when a job of the run has ended.
        name: name of its jobs, for people.
    """

    model: str | None = None
    priority: str | None = "bulk"
    retry_failed: bool = False
    max_failure_rate: float | None = None
    webhook: str | None = None
    name: str | None = None

    def check_failure_rate(self, failed: int, ended: int) -> None:
        """Check the share of failed images among those that have ended.

        Raises:
            errors.TooManyFailures: it is above `max_failure_rate`.
        """
        limit = self.max_failure_rate
        if limit is not None and ended >= MIN_FAILURE_SAMPLE and failed > limit * ended:
            raise errors.TooManyFailures(f"{failed} of {ended} images failed, more than the {limit:.0%} allowed.")


class BulkRun:
    """Run of one folder.

    Args:
        client: client of the server.
        directory: the folder.
        manifest: its manifest; written from the thread that calls the run.
        run_options: options of the run.
        on_update: called with the run after each change.

    Attributes:
        walk_summary: content of the folder, from `prepare` on.
        stats: image counts so far.
    """

    def __init__(
        self,
        client: Client,
        directory: walker.DirectoryWalker,
        manifest: run_manifest.RunManifest,
        run_options: RunOptions | None = None,
        on_update: Callable[[BulkRun], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._directory = directory
        self._manifest = manifest
        self._run_options = run_options or RunOptions()
        self._on_update = on_update
        self._change_detector = change_detection.ChangeDetector(client)
        self._uploader = uploader.Uploader(client, self._change_detector.disable_lookup)
        self._open_job: run_manifest.RunJob | None = None
        self._latest_job: run_manifest.RunJob | None = None
        self._count_before = 0  # images that earlier runs recorded as sent to the open job
        self._is_watching = False  # whether files may still be written to
        self.walk_summary = walker.WalkSummary(0, 0, 0, Counter())
        self.stats = RunStats()
        self._jobs: dict[str, responses.Job] = {}  # latest states, by id
        self._watched_ids: set[str] = set()  # jobs that had not ended at the start: their failures count for the limit
        self._label_summary = LabelSummary()

    @property
    def job(self) -> responses.Job | None:
        """Return the latest state of the newest job; None while there is none."""
        return self._jobs.get(self._latest_job.id) if self._latest_job else None

    @property
    def jobs(self) -> list[responses.Job]:
        """Return the latest states of the jobs of the run, oldest first; complete after `record_failures`."""
        return [self._jobs[job.id] for job in self._manifest.run_jobs() if job.id in self._jobs]

    @property
    def submitted_count(self) -> int:
        """Return the number of images in the newest job."""
        return self._count_before + self.stats.sent

    @property
    def expected_count(self) -> int:
        """Return the number of images that the newest job will have."""
        return max(self.submitted_count, self._count_before + self.walk_summary.new_count - self.stats.changed)

    @property
    def is_complete(self) -> bool:
        """Return whether every image was sent."""
        stats = self.stats
        return not (stats.not_sent or stats.missing or stats.changed or self.walk_summary.left_out)

    @property
    def is_successful(self) -> bool:
        """Return whether every image was sent and, in the jobs that have ended, classified; after `record_failures`."""
        return self.is_complete and not self._label_summary.failed

    def prepare(self, *, allow_empty: bool = False) -> None:
        """Load the state of earlier runs and walk the folder, without sending anything.

        Raises:
            errors.BadInput: the folder has no images, or the earlier run cannot be resumed.
        """
        self._latest_job = self._manifest.latest_job()
        if self._latest_job:
            self._change_detector.always_look_up()
            self._resume(self._latest_job)
        if self._open_job is None:
            self._manifest.clear_uploads()
        if self._run_options.retry_failed:
            self._record_earlier_failures()
        self._manifest.clear_not_sent()
        self.walk_summary = self._directory.summarize(self._is_new, allow_empty=allow_empty)
        self.stats.unchanged = self.walk_summary.image_count - self.walk_summary.new_count

    def _resume(self, latest_job: run_manifest.RunJob) -> None:
        try:
            job = self._jobs[latest_job.id] = self._client.job(latest_job.id)
        except errors.NotFound:
            raise errors.BadInput(
                f"Job {latest_job.id}, which has this folder's images, is not on the server any more, or belongs to "
                "another key: `sortbelt enqueue --fresh` starts a new job with all images.",
                "job_gone",
            ) from None
        if job.status == "cancelled" and not self._run_options.retry_failed:
            raise errors.BadInput(
                f"Job {latest_job.id}, which has this folder's images, was cancelled: `sortbelt enqueue "
                "--retry-failed` sends what it left undone, --fresh starts a new job with all images.",
                "job_cancelled",
            )
        if not job.ended:
            self._watched_ids.add(job.id)
        if not job.sealed:
            # Images whose acceptance an earlier run did not record are sent again, and are counted then.
            self._open_job, self._count_before = latest_job, self._manifest.count_images(latest_job)

    def _record_earlier_failures(self) -> None:
        """Record the failures of earlier jobs, which must have ended."""
        for job in self._manifest.jobs_without_recorded_failures():
            try:
                if not self._client.job(job.id).ended:
                    raise errors.BadInput(
                        f"Job {job.id} has not ended: run without --retry-failed to wait for it.", "still_running"
                    )
                self._record_job_failures(job, LabelSummary())
            except errors.NotFound:  # it was deleted: its failures are not known any more
                self._manifest.mark_failures_recorded(job.id)

    def _is_new(self, image: image_files.Image) -> bool:
        entry = self._manifest.lookup(image.name)
        return entry is None or not entry.is_unchanged(image) or self._should_retry(entry)

    def _should_retry(self, entry: run_manifest.ImageEntry) -> bool:
        return self._run_options.retry_failed and entry.job is not None and entry.code is not None

    def send(self) -> None:
        """Send everything that is new, in parallel requests.

        Called again, it retries what could not be read, and of what the server rejected the files that changed.
        """
        self._manifest.clear_unreadable()
        for upload_result in parallel.parallel_map(
            self._uploader.upload, self._upload_batches(), thread_count=UPLOAD_THREADS
        ):
            assert self._open_job  # noqa: S101 - a batch has a job
            self._manifest.mark_sent(self._open_job, upload_result.accepted)
            self.stats.sent += len(upload_result.accepted)
            self._record_not_sent(upload_result.failures)
            self._update(*upload_result.jobs)
        self.stats.not_sent = self._manifest.count_not_sent()
        self._update()

    def send_all(self) -> None:
        """Send everything that is new; images that changed after they were sent to the open job go into another one."""
        self.send()
        if self.stats.changed:
            self.seal()
            self.stats.changed = 0
            self.send()

    def seal(self) -> None:
        """Seal the open job: it accepts no more images."""
        if self._open_job:
            sealed = self._client.seal(self._open_job.id)
            self._update(sealed)
            self._leave_open_job(self._open_job, sealed)

    def _leave_open_job(self, open_job: run_manifest.RunJob, sealed: responses.Job) -> None:
        """Let further images go into another job."""
        self.stats.missing += max(0, self._manifest.count_images(open_job) - sealed.counts.total)
        self._open_job = None
        self._manifest.clear_uploads()

    def wait_until_ended(self) -> None:
        """Wait until the jobs of the run have ended."""
        self._load_jobs()
        for job in self.jobs:
            if not job.ended:
                for update in self._client.watch(job.id):
                    self._update(update)

    def _load_jobs(self) -> None:
        """Get the jobs of the run that were sealed before an interruption."""
        for job in self._manifest.run_jobs():
            if job.id not in self._jobs:
                self._load_job(job.id)

    def _load_job(self, job_id: str) -> None:
        """Get the state of a job; an earlier one that is not on the server any more does not count."""
        try:
            job = self._client.job(job_id)
            if job_id not in self._jobs and not job.ended:
                self._watched_ids.add(job_id)
            self._update(job)
        except errors.NotFound:
            if self._latest_job is None or job_id == self._latest_job.id:
                raise
            self._jobs.pop(job_id, None)

    def mark_complete(self) -> None:
        """Record that the run was not interrupted: a new job belongs to another run."""
        self._manifest.mark_run_complete()

    def record_failures(self) -> LabelSummary:
        """Record the failures of the run's jobs that have ended in the manifest; return the labels of their images."""
        self._load_jobs()
        self._label_summary = LabelSummary()
        for job in self._manifest.run_jobs():
            if job.id in self._jobs and self._jobs[job.id].ended:
                self._record_job_failures(job, self._label_summary)
        return self._label_summary

    def failures(self) -> Iterator[run_manifest.FailedImage]:
        """Yield the images without a label, by name; complete after `record_failures`."""
        return self._manifest.failures(next(iter(self._manifest.run_jobs()), None))

    def watch(self, idle_seconds: float | None) -> None:
        """Send what is added to the folder, until nothing was added for `idle_seconds`, or for ever.

        An image that changes after it was sent goes into a new job, since a name is unique in its job.
        """
        self._is_watching, idle_since = True, time.monotonic()
        while idle_seconds is None or time.monotonic() - idle_since < idle_seconds:
            started_at, sent_before, delay = time.monotonic(), self.stats.sent, MIN_POLL_SECONDS
            self.send()
            if self.stats.changed:
                self.seal()
                self.stats.changed = 0
                idle_since = time.monotonic()
            elif self.stats.sent > sent_before:
                idle_since = time.monotonic()
            else:
                delay = max(delay, WALK_REST_FACTOR * (time.monotonic() - started_at))
                self._refresh_jobs()
            time.sleep(delay)

    def _refresh_jobs(self) -> None:
        for job in self.jobs:
            if not job.ended:
                self._load_job(job.id)
        # The server seals an open job to which nothing was added for days.
        if self._open_job and self.job and self.job.sealed and self.job.status != "cancelled":
            self._leave_open_job(self._open_job, self.job)

    def _upload_batches(self) -> Iterator[uploader.UploadBatch]:
        blocks = change_detection.blocks(self._candidates())
        for change_set in parallel.parallel_map(self._change_detector.detect, blocks, thread_count=HASH_THREADS):
            self._manifest.mark_touched(change_set.touched)
            self.stats.changed += len(change_set.changed)
            self._record_not_sent(change_set.unreadable)
            if change_set.new:
                yield from self._split_for_upload(change_set)

    def _split_for_upload(self, change_set: change_detection.ChangeSet) -> Iterator[uploader.UploadBatch]:
        job = self._ensure_open_job()
        self._manifest.mark_uploading(change_set.new)
        known_images = [image for image in change_set.new if image.sha256 in change_set.known_digests]
        self.stats.by_reference += len(known_images)
        if known_images:
            yield uploader.UploadBatch(job.id, known_images, by_reference=True)
        for batch in image_files.batches(
            image for image in change_set.new if image.sha256 not in change_set.known_digests
        ):
            yield uploader.UploadBatch(job.id, batch)

    def _candidates(self) -> Iterator[change_detection.Candidate]:
        for image in self._directory.walk():
            entry = self._manifest.lookup(image.name)
            if self._is_watching and _is_recent(image):
                continue
            if entry is not None and entry.is_unchanged(image) and not self._should_retry(entry):
                continue
            yield self._to_candidate(image, entry)

    def _to_candidate(
        self, image: image_files.Image, entry: run_manifest.ImageEntry | None
    ) -> change_detection.Candidate:
        if self._open_job is not None and entry is not None and entry.job == self._open_job.number:
            return change_detection.Candidate(image, entry.sha256, entry.sha256)
        sha256 = "" if entry is None or self._should_retry(entry) else entry.sha256
        job_sha256 = self._manifest.lookup_upload(image.name) if self._open_job is not None else ""
        return change_detection.Candidate(image, sha256, job_sha256)

    def _ensure_open_job(self) -> run_manifest.RunJob:
        if self._open_job is None:
            run_options = self._run_options
            job = self._client.open_job(
                name=run_options.name,
                model=run_options.model,
                priority=run_options.priority,
                webhook=run_options.webhook,
                idempotency_key=self._manifest.job_idempotency_key(),
            )
            self._open_job = self._latest_job = self._manifest.add_job(job.id)
            self._jobs[job.id] = job
            self._watched_ids.add(job.id)
            self._count_before = -self.stats.sent
        return self._open_job

    def _record_not_sent(self, failures: list[run_manifest.FailedImage]) -> None:
        if failures:
            self._manifest.mark_not_sent(failures, self._open_job)
            self.stats.not_sent = self._manifest.count_not_sent()

    def _update(self, *updates: responses.Job) -> None:
        for job in updates:
            # Responses to parallel requests arrive in any order: the most advanced is the latest.
            self._jobs[job.id] = max(job, self._jobs.get(job.id, job), key=_progress_key)
        self._on_update(self)
        self._check_failure_rate()

    def _check_failure_rate(self) -> None:
        failed, ended = self.stats.not_sent, self.stats.not_sent
        for job in (self._jobs[id_] for id_ in self._watched_ids if id_ in self._jobs):
            failed, ended = failed + job.counts.failed, ended + job.counts.ended
        self._run_options.check_failure_rate(failed, ended)

    def _record_job_failures(self, job: run_manifest.RunJob, summary: LabelSummary) -> None:
        failed_images = (
            to_failed_image(result)
            for result in self._client.results(job.id, limit=RESULT_PAGE_SIZE)
            if self._is_current(result.image, job) and not summary.count_label(result)
        )
        while failures := list(itertools.islice(failed_images, FAILURE_BATCH_SIZE)):
            summary.failed += len(failures)
            self._manifest.mark_failed(job, failures)
        self._manifest.mark_failures_recorded(job.id)

    def _is_current(self, name: str, job: run_manifest.RunJob) -> bool:
        """Return whether a job has the latest bytes of an image, as far as is known."""
        entry = self._manifest.lookup(name)
        return entry is None or entry.job == job.number


def _is_recent(image: image_files.Image) -> bool:
    return abs(time.time() - image.mtime_ns / 1e9) < MIN_FILE_AGE_SECONDS


def _progress_key(job: responses.Job) -> tuple[bool, bool, int, int]:
    return job.ended, job.sealed, job.counts.ended, job.counts.total


def to_failed_image(result: responses.Result) -> run_manifest.FailedImage:
    """Convert a result without a label."""
    error = result.error or responses.ImageError(result.status, "no label")
    return run_manifest.FailedImage(result.image, error.code, error.detail)
