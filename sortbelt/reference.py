"""A run by reference: pictures that lie with the server, or in a bucket that it reads, on their way through one job."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sortbelt import enqueue, errors, manifest, records
from sortbelt.client import Client

BUCKET = "s3://"


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be classified: a source of the server, or an address in one, a prefix in it, and globs."""

    source: str
    prefix: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


class ReferenceRun:
    """One job that the server fills by itself.

    Args:
        client: of the server.
        place: what is to be classified.
        wishes: how.
        show: is called with the job whenever there is news.

    Attributes:
        job: as the server last told it; None while there is none.
    """

    def __init__(
        self, client: Client, place: Place, wishes: enqueue.Wishes, show: Callable[[records.Job], None] = lambda _: None
    ) -> None:
        self._client = client
        self._place = place
        self._wishes = wishes
        self._show = show
        self.job: records.Job | None = None

    @property
    def all_well(self) -> bool:
        """Whether, as far as the job has ended, everything was found and got its label."""
        return self.job is None or not self.job.ended or self.job.all_well

    def order(self) -> None:
        """Make the job and have the server fill it; what follows needs nobody.

        Raises:
            errors.Invalid: there is no such source.
        """
        wishes, place = self._wishes, self._place
        job = self._client.open_job(model=wishes.model, priority=wishes.priority, webhook=wishes.webhook)
        try:
            self._news(self._client.scan(job.id, place.source, place.prefix, place.include, place.exclude))
        except errors.Refused:
            self._client.cancel(job.id)
            raise

    def follow(self) -> None:
        """Stay with the job until it has ended.

        Raises:
            errors.TooManyFailures: more fails than is allowed.
        """
        if self.job:
            for job in self._client.watch(self.job.id):
                self._news(job)

    def settle(self) -> enqueue.Summary:
        """The labels of the job that has ended."""
        summary = enqueue.Summary()
        for result in self._client.results(self.job.id) if self.job else ():
            summary.failed += not summary.counts(result)
        return summary

    def failures(self) -> Iterator[manifest.Failure]:
        """The pictures without a label."""
        for result in self._client.results(self.job.id) if self.job else ():
            if result.label is None:
                yield enqueue.failure(result)

    def _news(self, job: records.Job) -> None:
        self.job = job
        self._show(job)
        self._wishes.judge(job.counts.failed, job.counts.ended)
