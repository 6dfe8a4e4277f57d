"""Import run: one job over images that the server reads itself, from a source or a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sortbelt import errors
from sortbelt.bulk import run_manifest, runner
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

S3_SCHEME = "s3://"


class SourceSelection(NamedTuple):
    """Images to classify: a source of the server, or an address in one, with a prefix and globs."""

    source: str
    prefix: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


class ImportRun:
    """One job that the server fills itself.

    Args:
        client: client of the server.
        selection: images to classify.
        run_options: options of the job.
        on_update: called with the job after each change.

    Attributes:
        job: latest state of the job; None before `start`.
    """

    def __init__(
        self,
        client: Client,
        selection: SourceSelection,
        run_options: runner.RunOptions,
        on_update: Callable[[responses.Job], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._selection = selection
        self._run_options = run_options
        self._on_update = on_update
        self.job: responses.Job | None = None

    @property
    def is_successful(self) -> bool:
        """Return whether, if the job has ended, everything was found and classified."""
        return self.job is None or not self.job.ended or self.job.all_well

    def start(self) -> responses.Job:
        """Create the job and start the import; the server then needs no client.

        Raises:
            errors.InvalidRequest: the source does not exist.
        """
        run_options, selection = self._run_options, self._selection
        job = self._client.open_job(
            name=run_options.name,
            model=run_options.model,
            priority=run_options.priority,
            webhook=run_options.webhook,
        )
        try:
            return self._update(
                self._client.scan(job.id, selection.source, selection.prefix, selection.include, selection.exclude)
            )
        except errors.ApiError:
            self._client.cancel(job.id)
            raise

    def wait_until_ended(self) -> responses.Job:
        """Wait until the job has ended, and return it.

        Raises:
            errors.TooManyFailures: more images failed than the options allow.
        """
        for job in self._client.watch(self._started_job().id):
            self._update(job)
        return self._started_job()

    def summarize(self) -> runner.LabelSummary:
        """Count the labels of the job, which has ended."""
        summary = runner.LabelSummary()
        for result in self._client.results(self._started_job().id):
            summary.failed += not summary.count_label(result)
        return summary

    def failures(self) -> Iterator[run_manifest.FailedImage]:
        """Yield the images without a label."""
        for result in self._client.results(self._started_job().id):
            if result.label is None:
                yield runner.to_failed_image(result)

    def _started_job(self) -> responses.Job:
        assert self.job is not None  # noqa: S101 - `start` comes first
        return self.job

    def _update(self, job: responses.Job) -> responses.Job:
        self.job = job
        self._on_update(job)
        self._run_options.check_failure_rate(job.counts.failed, job.counts.ended)
        return job
