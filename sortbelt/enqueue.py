"""A folder as one job: opened, filled by several uploads at once, sealed, and followed to its end."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sortbelt import errors, folder, pictures, records, threads
from sortbelt.client import Client

UPLOADS = 3  # requests at once: enough to keep the server busy while the next pictures are read
MOST_LISTED = 20  # failures told one by one; the others are in the results


@dataclass(frozen=True, slots=True)
class NotSent:
    """A picture that never reached the job, and why."""

    name: str
    code: str
    detail: str


@dataclass
class Run:
    """One folder on its way through one job, seen from outside.

    Attributes:
        survey: what the folder holds.
        job: as the server last told it.
        sent: pictures that the server has.
        not_sent: pictures that it will never get.
    """

    survey: folder.Survey
    job: records.Job
    sent: int = 0
    not_sent: list[NotSent] = field(default_factory=list)


@dataclass
class Summary:
    """What came of a run: how many pictures got which label, and the first of those that got none."""

    labels: Counter[str] = field(default_factory=Counter)
    failures: list[records.Result] = field(default_factory=list)


Watcher = Callable[[Run], None]


def start(client: Client, source: folder.Folder, *, job_id: str | None, model: str | None, priority: str | None) -> Run:
    """An open job for a folder, or one that was left open before.

    Raises:
        errors.BadInput: the folder has no pictures; then no job is made.
    """
    survey = source.survey()
    job = client.job(job_id) if job_id else client.open_job(model=model, priority=priority)
    return Run(survey, job)


def send(client: Client, source: folder.Folder, run: Run, watch: Watcher) -> None:
    """Send every picture, several requests at once, and seal the job."""

    def upload(batch: Sequence[pictures.Picture]) -> _Uploaded:
        return _upload(client, run.job.id, batch)

    for uploaded in threads.each(upload, pictures.batches(source.pictures()), threads=UPLOADS):
        run.sent += uploaded.sent
        run.not_sent += uploaded.not_sent
        # Answers may overtake each other: the one that has seen most is the latest.
        run.job = max([run.job, *uploaded.answers], key=lambda job: (job.counts.ended, job.counts.total))
        watch(run)
    run.job = client.seal(run.job.id)
    watch(run)


def follow(client: Client, run: Run, watch: Watcher) -> None:
    """Stay with the job until it has ended."""
    for job in client.watch(run.job.id):
        run.job = job
        watch(run)


def summarize(client: Client, job_id: str) -> Summary:
    """The labels and failures of a job, read page by page."""
    summary = Summary()
    for result in client.results(job_id):
        if result.label is not None:
            summary.labels[result.label] += 1
        elif len(summary.failures) < MOST_LISTED:
            summary.failures.append(result)
    return summary


@dataclass(frozen=True, slots=True)
class _Uploaded:
    """What came of some pictures: the server's answers, how many it took, and those that it will never get."""

    answers: list[records.Job]
    sent: int
    not_sent: list[NotSent]


def _upload(client: Client, job_id: str, batch: Sequence[pictures.Picture]) -> _Uploaded:
    """Send some pictures; one that cannot be read or is too much for the server costs itself only."""
    readable, not_sent = _read(batch)
    if not readable:
        return _Uploaded([], 0, not_sent)
    try:
        return _Uploaded([client.add_images(job_id, readable)], len(readable), not_sent)
    except errors.Invalid as problem:
        if len(readable) == 1:
            return _Uploaded([], 0, [*not_sent, NotSent(readable[0].name, problem.code, str(problem))])
    middle = len(readable) // 2
    one, other = (_upload(client, job_id, half) for half in (readable[:middle], readable[middle:]))
    return _Uploaded(one.answers + other.answers, one.sent + other.sent, not_sent + one.not_sent + other.not_sent)


def _read(batch: Sequence[pictures.Picture]) -> tuple[list[pictures.Picture], list[NotSent]]:
    """The pictures with their bytes; they are read once, so that a repeated request says the same."""
    readable, not_sent = [], []
    for picture in batch:
        try:
            data = picture.read()
            readable.append(pictures.Picture(picture.name, len(data), data))
        except errors.BadInput as problem:
            not_sent.append(NotSent(picture.name, problem.code, str(problem)))
    return readable, not_sent
