"""A folder run: a folder's way through a job, which goes on where it stopped, whatever stopped it."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sortbelt import delivery, errors, examine, folder, manifest, pictures, records, threads
from sortbelt.client import Client

UPLOADS = 3  # requests at once: enough to keep the server busy while the next pictures are read
READERS = 2  # blocks that are hashed at once
ENOUGH_TO_JUDGE = 20  # pictures, before a rate of failures says anything
SETTLE_SECONDS = 2.0  # a file that was written so lately may not be whole
LEAST_POLL_SECONDS = 1.0
WALK_SHARE = 10  # a watcher rests so many times as long as its walk took
FAILURES_AT_ONCE = 500  # written to the manifest
SETTLED_AT_ONCE = 200  # results in memory together: a summary shall not be what costs most


@dataclass
class Summary:
    """What came of a job: how many pictures got which label, and how many got none."""

    labels: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def counts(self, result: records.Result) -> bool:
        """Whether the result has a label, which is then counted."""
        if result.label is not None:
            self.labels[result.label] += 1
        return result.label is not None


@dataclass
class Tally:
    """What this run did: pictures sent, of them by reference, left as they were, changed too late, not to be had."""

    sent: int = 0
    by_reference: int = 0
    unchanged: int = 0
    changed: int = 0
    not_sent: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a folder is to be put through.

    Attributes:
        model: the model to use, else the server's default.
        priority: `interactive` or `bulk`.
        retry_failed: whether pictures that failed before are sent again.
        max_failure_rate: the share of failures, from 0 to 1, beyond which the run stops.
        webhook: the URL that is told when a job of the run has ended.
    """

    model: str | None = None
    priority: str | None = "bulk"
    retry_failed: bool = False
    max_failure_rate: float | None = None
    webhook: str | None = None

    def judge(self, failed: int, ended: int) -> None:
        """See that not too many of the pictures that have ended have failed.

        Raises:
            errors.TooManyFailures: they have.
        """
        limit = self.max_failure_rate
        if limit is not None and ended >= ENOUGH_TO_JUDGE and failed > limit * ended:
            raise errors.TooManyFailures(f"{failed} of {ended} pictures failed, more than the {limit:.0%} allowed.")


class FolderRun:
    """One folder on its way through one job.

    Args:
        client: of the server.
        source: the folder.
        book: its manifest; the run writes to it, from the thread that calls the run.
        wishes: how it is to be done.
        show: is called with the run whenever there is news.

    Attributes:
        survey: what the folder holds, from `begin` on.
        job: as the server last told it; None while there is none.
        tally: what was done so far.
    """

    def __init__(
        self,
        client: Client,
        source: folder.Folder,
        book: manifest.Manifest,
        wishes: Wishes | None = None,
        show: Callable[["FolderRun"], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._source = source
        self._book = book
        self._wishes = wishes or Wishes()
        self._show = show
        self._examiner = examine.Examiner(client)
        self._delivery = delivery.Delivery(client, self._examiner.give_up_asking)
        self._open: manifest.Job | None = None
        self._latest: manifest.Job | None = None
        self._before = 0  # pictures that the open job had before this run sent its first
        self._growing = False  # whether the folder is watched while others write to it
        self.survey = folder.Survey(0, 0, 0, 0, Counter())
        self.job: records.Job | None = None
        self.tally = Tally()

    @property
    def has(self) -> int:
        """How many pictures the job has."""
        return self._before + self.tally.sent

    @property
    def wants(self) -> int:
        """How many pictures the job is to have."""
        return max(self.has, self._before + self.survey.new - self.tally.changed)

    @property
    def all_well(self) -> bool:
        """Whether every picture was sent and, as far as the job has ended, got its label."""
        return not self.tally.not_sent and (self.job is None or not self.job.ended or self.job.all_well)

    @property
    def ended(self) -> bool:
        """Whether every picture of the job has its result."""
        return self.job is not None and self.job.ended

    def begin(self, *, may_be_empty: bool = False) -> None:
        """See how far an earlier run came, and what is left to do; nothing is sent yet.

        Raises:
            errors.BadInput: the folder has no pictures, or the earlier run cannot be gone on with.
        """
        self._latest = self._book.latest()
        if self._latest:
            self._go_on(self._latest)
        if self._wishes.retry_failed:
            self._learn_failures()
        self._book.forget_not_sent()
        self.survey = self._source.survey(self._is_new, may_be_empty=may_be_empty)
        self.tally.unchanged = self.survey.pictures - self.survey.new

    def _go_on(self, latest: manifest.Job) -> None:
        try:
            self.job = self._client.job(latest.id)
        except errors.NotFound:
            raise errors.BadInput(
                f"Job {latest.id}, which has this folder's pictures, is not on the server any more, or not this key's: "
                "--fresh begins anew with all pictures.",
                "job_gone",
            ) from None
        if self.job.status == "cancelled" and not self._wishes.retry_failed:
            raise errors.BadInput(
                f"Job {latest.id}, which has this folder's pictures, was cancelled: --retry-failed takes up what it "
                "left, --fresh begins anew with all pictures.",
                "job_cancelled",
            )
        if self.job.sealed:
            self._book.sealed(latest.id)
        else:
            self._open, self._before = latest, self.job.counts.total

    def _learn_failures(self) -> None:
        """Write down what failed in earlier jobs; they must have ended."""
        for job in self._book.unsettled():
            if not self._client.job(job.id).ended:
                raise errors.BadInput(
                    f"Job {job.id} has not ended: without --retry-failed this command goes on with it.", "still_running"
                )
            self._settle(job)

    def _is_new(self, picture: pictures.Picture) -> bool:
        entry = self._book.lookup(picture.name)
        return entry is None or not entry.untouched(picture) or self._again(entry)

    def _again(self, entry: manifest.Entry) -> bool:
        return self._wishes.retry_failed and entry.code is not None

    def send(self) -> None:
        """Send everything that is new, several requests at once."""
        for done in threads.each(self._delivery.deliver, self._parcels(), threads=UPLOADS):
            assert self._open  # noqa: S101 - a parcel has a job
            self._book.sent(self._open, done.taken)
            self.tally.sent += len(done.taken)
            self._not_sent(done.refused)
            self._news(*done.answers)
        self._news()

    def seal(self) -> None:
        """Say that the job has all its pictures."""
        if self._open:
            self._news(self._client.seal(self._open.id))
            self._book.sealed(self._open.id)
            self._open = None

    def follow(self) -> None:
        """Stay with the job until it has ended."""
        if self.job and not self.job.ended:
            for job in self._client.watch(self.job.id):
                self._news(job)

    def settle(self) -> Summary:
        """The labels of the job that has ended; its failures go into the manifest."""
        return self._settle(self._latest) if self._latest else Summary()

    def failures(self) -> Iterator[manifest.Failure]:
        """The pictures without a label, by name: complete once the job is settled."""
        return self._book.failures(self._latest)

    def keep_watching(self, idle: float | None) -> None:
        """Send what is added to the folder, until nothing was for `idle` seconds, or for ever.

        A picture that was changed after it was sent goes into another job, since a name is unique in one.
        """
        self._growing, quiet_since = True, time.monotonic()
        while idle is None or time.monotonic() - quiet_since < idle:
            started, before, rest = time.monotonic(), self.tally.sent, LEAST_POLL_SECONDS
            self.send()
            if self.tally.changed:
                self.seal()
                self.tally.changed = 0
                quiet_since = time.monotonic()
            elif self.tally.sent > before:
                quiet_since = time.monotonic()
            else:
                rest = max(rest, WALK_SHARE * (time.monotonic() - started))
                self._look()
            time.sleep(rest)

    def _look(self) -> None:
        if self.job and not self.job.ended:
            self._news(self._client.job(self.job.id))

    def _parcels(self) -> Iterator[delivery.Parcel]:
        blocks = examine.blocks(self._candidates())
        for found in threads.each(self._examiner.examine, blocks, threads=READERS):
            self._book.touched(found.touched)
            self.tally.changed += len(found.changed)
            self._not_sent(found.unreadable)
            if found.new:
                yield from self._packed(found)

    def _packed(self, found: examine.Examined) -> Iterator[delivery.Parcel]:
        job = self._opened()
        known = [picture for picture in found.new if picture.sha256 in found.known]
        self.tally.by_reference += len(known)
        if known:
            yield delivery.Parcel(job.id, known, known=True)
        for batch in pictures.batches(picture for picture in found.new if picture.sha256 not in found.known):
            yield delivery.Parcel(job.id, batch)

    def _candidates(self) -> Iterator[examine.Candidate]:
        for picture in self._source.pictures():
            entry = self._book.lookup(picture.name)
            if self._growing and _young(picture):
                continue
            if entry is None:
                yield examine.Candidate(picture)
            elif entry.untouched(picture) and not self._again(entry):
                continue
            else:
                taken = self._open is not None and self._open.number == entry.job
                yield examine.Candidate(picture, "" if self._again(entry) and not taken else entry.sha256, taken)

    def _opened(self) -> manifest.Job:
        if self._open is None:
            wishes = self._wishes
            self.job = self._client.open_job(
                model=wishes.model,
                priority=wishes.priority,
                webhook=wishes.webhook,
                idempotency_key=self._book.order(),
            )
            self._open = self._latest = self._book.opened(self.job.id)
            self._before = -self.tally.sent
        return self._open

    def _not_sent(self, failures: list[manifest.Failure]) -> None:
        self._book.not_sent(failures)
        self.tally.not_sent += len(failures)

    def _news(self, *answers: records.Job) -> None:
        known = [self.job] if self.job else []
        # Answers may overtake each other: the one that has seen most is the latest.
        self.job = max([*answers, *known], key=_age, default=None)
        self._show(self)
        self._judge()

    def _judge(self) -> None:
        """Stop if too much fails."""
        failed, ended = self.tally.not_sent, self.tally.not_sent
        if self.job:
            failed, ended = failed + self.job.counts.failed, ended + self.job.counts.ended
        self._wishes.judge(failed, ended)

    def _settle(self, job: manifest.Job) -> Summary:
        summary = Summary()
        unlabelled = (
            failure(result)
            for result in self._client.results(job.id, limit=SETTLED_AT_ONCE)
            if not summary.counts(result)
        )
        while failures := list(itertools.islice(unlabelled, FAILURES_AT_ONCE)):
            summary.failed += len(failures)
            self._book.failed(job, failures)
        self._book.settled(job.id)
        return summary


def _young(picture: pictures.Picture) -> bool:
    return abs(time.time() - picture.mtime_ns / 1e9) < SETTLE_SECONDS


def _age(job: records.Job) -> tuple[bool, bool, int, int]:
    return job.ended, job.sealed, job.counts.ended, job.counts.total


def failure(result: records.Result) -> manifest.Failure:
    """Why a picture has no label."""
    error = result.error or records.Failure(result.status, "no label")
    return manifest.Failure(result.image, error.code, error.detail)
