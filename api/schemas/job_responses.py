"""Response schemas of jobs."""

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib import parse

from typing_extensions import TypedDict

from api.schemas import fields, result_responses
from api.schemas.fields import doc
from core import enums

if TYPE_CHECKING:  # schemas load no database driver
    from core.db.queries import eta

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 1, 30
MAX_ETA_SECONDS = 10 * 365 * 86_400  # a later date may overflow
WEBHOOK_DESCRIPTION = f"the URL that is called when the job has ended{fields.HOST_ONLY_NOTE}"


class EndedCounts(TypedDict):
    """The outcomes of the images of a job; they sum to the total."""

    total: Annotated[fields.Count, doc("all images of the job")]
    done: Annotated[fields.Count, doc("with a label")]
    failed: Annotated[fields.Count, doc("with an error")]
    cancelled: Annotated[fields.Count, doc("cancelled before a worker claimed them")]
    expired: Annotated[fields.Count, doc("not claimed by a worker before the deadline")]


class Counts(EndedCounts):
    """The number of images in each state; the states sum to the total."""

    queued: Annotated[fields.Count, doc("waiting for a worker")]
    running: Annotated[fields.Count, doc("held by a worker")]


class LeftOutFile(TypedDict):
    """A file that an import left out although it may be an image, or contain some."""

    name: Annotated[str, doc("its path in the source, at most the first 200 characters")]
    reason: Annotated[str, doc("why it was left out", examples=["unreadable archive"])]


class Scan(TypedDict):
    """The import of images from a source into a job."""

    source: Annotated[str, doc("the name of the source", examples=["photos"])]
    prefix: Annotated[str, doc("the folder in it; empty for all of it")]
    include: Annotated[list[str], doc("globs of files that are imported, whatever their suffix")]
    exclude: Annotated[list[str], doc("globs of files and folders that are skipped")]
    status: Annotated[enums.ScanStatus, doc("the state of the import")]
    found: Annotated[fields.Count, doc("images so far, all of which are in the job")]
    skipped: Annotated[fields.Count, doc("files that were skipped so far")]
    skipped_by_reason: Annotated[dict[str, int], doc("their number by reason", examples=[{"not an image": 3}])]
    left_out: Annotated[list[LeftOutFile], doc("the first 20 of those that may be images, or contain some")]
    error: Annotated[str | None, doc("why it has failed, or what it is waiting for")]
    created_at: Annotated[fields.Timestamp, doc("when it was requested")]
    ended_at: Annotated[fields.Timestamp | None, doc("null while it is going on")]


class Job(TypedDict):
    """A job: its status, its counts and its URLs."""

    id: Annotated[fields.Id, doc("the id of this job")]
    status: Annotated[enums.JobStatus, doc("the status of the job as a whole")]
    counts: Annotated[Counts, doc("the number of its images in each state")]
    sealed: Annotated[bool, doc("whether it is closed to more images; a job does not end before it is sealed")]
    name: Annotated[str | None, doc("a name for people, such as that of the folder; null if it has none")]
    owner: Annotated[str, doc("the name of the key that submitted it")]
    model: Annotated[str, doc("the name of the model that classifies its images")]
    priority: Annotated[Literal["interactive", "bulk"], doc(fields.PRIORITY_DESCRIPTION)]
    metadata: Annotated[dict[str, Any], doc("as it was submitted")]
    status_url: Annotated[fields.Url, doc("this job")]
    results_url: Annotated[fields.Url, doc("its results so far")]
    events_url: Annotated[fields.Url, doc("server-sent events")]
    images_url: Annotated[fields.Url, doc("POST: add images while it is open")]
    seal_url: Annotated[fields.Url, doc("POST: add no more images")]
    cancel_url: Annotated[fields.Url, doc("POST: cancel it")]
    retry_url: Annotated[fields.Url, doc("POST: retry the images without a label")]
    scan_url: Annotated[fields.Url, doc("POST: import images from a source")]
    scan: Annotated[Scan | None, doc("the import from a source; null if there is none")]
    retry_of: Annotated[fields.Id | None, doc("the job whose images without a label this job retries")]
    webhook: Annotated[str | None, doc(WEBHOOK_DESCRIPTION)]
    created_at: Annotated[fields.Timestamp, doc("when it was accepted")]
    sealed_at: Annotated[fields.Timestamp | None, doc("when it was closed to more images")]
    started_at: Annotated[fields.Timestamp | None, doc("when a worker claimed its first image; null before that")]
    finished_at: Annotated[fields.Timestamp | None, doc("when its last image got a result; null before that")]
    expires_at: Annotated[fields.Timestamp | None, doc("when images that no worker has claimed expire; null for never")]
    queue_position: Annotated[int | None, doc("the number of images ahead of it; null when it has ended")]
    estimated_finish: Annotated[
        fields.Timestamp | None, doc("the expected end, by the recent throughput; null if that is not known")
    ]
    earliest_finish: Annotated[fields.Timestamp | None, doc("the lower bound of the 95 % interval of the expected end")]
    latest_finish: Annotated[fields.Timestamp | None, doc("the upper bound; null if the throughput varied too much")]


class JobWithResults(Job, total=False):
    """A job, with its first results if it has ended within `Prefer: wait`."""

    results: Annotated[
        list[result_responses.Result], doc("the first 100, in the order of its images; `results_url` has all")
    ]


class LeftOutImages(TypedDict):
    """Images that a retry leaves out, since they would fail again."""

    code: Annotated[str, doc("the code of their error, such as `undecodable`")]
    images: Annotated[fields.Count, doc("the number of these images")]


class JobRetry(Job):
    """A job that retries another, and what it leaves out."""

    left_out: Annotated[list[LeftOutImages], doc("images that were rejected by their headers, which would fail again")]


class Jobs(TypedDict):
    """A page of jobs."""

    jobs: Annotated[list[Job], doc("the newest first")]


class DigestCheck(TypedDict):
    """Which of the given SHA-256 digests are known."""

    known: Annotated[list[str], doc("those whose bytes you have sent before")]
    missing: Annotated[list[str], doc("those whose bytes have to be sent")]


class JobEta(NamedTuple):
    """The queue position of a job, and when it is expected to end; None where that is not known."""

    position: int | None = None
    finish: datetime | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    remaining_seconds: float = 0.0
    """Until `finish`; 0 if that is not known."""


NO_ETA = JobEta()


def job_eta(row: Any, estimate: "eta.QueueEstimate | None") -> JobEta:
    """Return what the throughput of the queue says about a job."""
    if estimate is None or row.finished_at is not None:
        return NO_ETA
    position = estimate.position(row.priority, str(row.id))
    images = position + row.total - count_finished(row)
    bounds = estimate.throughput.eta_range(images) if row.sealed_at is not None else None
    if bounds is None:
        return JobEta(position)
    seconds = (estimate.throughput.eta_seconds(images), *bounds)
    finish, earliest, latest = (_add_seconds(estimate.estimated_at, value) for value in seconds)
    remaining_seconds = 0.0 if finish is None else (finish - estimate.estimated_at).total_seconds()
    return JobEta(position, finish, earliest, latest, remaining_seconds)


def serialize_job(row: Any, base_url: str, eta: JobEta = NO_ETA, *, show_full_url: bool = True) -> Job:
    """Return a job; `base_url` is the server's, and without `show_full_url` only the host of its webhook is shown."""
    finished = count_finished(row)
    counts: Counts = {
        "total": row.total,
        "queued": row.total - row.running - finished,
        "running": row.running,
        "done": row.done,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "expired": row.expired,
    }
    job_url = f"{base_url}v1/jobs/{row.id}"
    sealed_at, started_at, finished_at, expires_at, eta_finish, eta_earliest, eta_latest = fields.timestamps(
        *(row.sealed_at, row.started_at, row.finished_at, row.expires_at), *(eta.finish, eta.earliest, eta.latest)
    )
    return {
        "id": row.id,
        "status": row.status,
        "counts": counts,
        "sealed": row.sealed_at is not None,
        "name": row.name,
        "owner": row.owner,
        "model": row.model,
        "priority": enums.Priority(row.priority).name.lower(),  # type: ignore[typeddict-item]  # those two there are
        "metadata": row.metadata,
        "status_url": job_url,
        "results_url": f"{job_url}/results",
        "events_url": f"{job_url}/events",
        "images_url": f"{job_url}/images",
        "seal_url": f"{job_url}/seal",
        "cancel_url": f"{job_url}/cancel",
        "retry_url": f"{job_url}/retry",
        "scan_url": f"{job_url}/scan",
        "scan": None if row.scan_status is None else _serialize_scan(row),
        "retry_of": row.retry_of,
        "webhook": row.webhook_url if show_full_url else host_only(row.webhook_url),
        "created_at": fields.timestamp(row.created_at),
        "sealed_at": sealed_at,
        "started_at": started_at,
        "finished_at": finished_at,
        "expires_at": expires_at,
        "queue_position": eta.position,
        "estimated_finish": eta_finish,
        "earliest_finish": eta_earliest,
        "latest_finish": eta_latest,
    }


def host_only(url: str | None) -> str | None:
    """Return only the scheme and host of a URL: the rest may be a secret."""
    if url is None:
        return None
    split = parse.urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}/"


def serialize_left_out(counts: Mapping[str, int]) -> list[LeftOutImages]:
    """Return the images that a retry leaves out, of their numbers by error code."""
    return [{"code": code, "images": count} for code, count in counts.items()]


def _serialize_scan(row: Any) -> Scan:
    """Return the import of a job from a source."""
    skipped_by_reason, left_out = row.scan_skipped_by_reason or {}, row.scan_left_out or []
    return fields.from_row(Scan, row, "scan_", skipped_by_reason=skipped_by_reason, left_out=left_out)


def _add_seconds(start: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None or seconds >= MAX_ETA_SECONDS else start + timedelta(seconds=seconds)


def count_finished(row: Any) -> int:
    """Return the number of images of a job that have a result."""
    return int(row.done + row.failed + row.cancelled + row.expired)


def etag(row: Any) -> str:
    """Return the ETag of a job, which changes with everything in it except the ETA."""
    counts = (row.total, row.running, row.done, row.failed, row.cancelled, row.expired)
    scan = (row.scan_status, row.scan_found, row.scan_skipped, row.scan_error)
    state = (row.id, row.status, row.name, *counts, row.sealed_at, row.finished_at, *scan)
    return f'W/"{hashlib.blake2b(repr(state).encode(), digest_size=9).hexdigest()}"'


def retry_after_header(row: Any, eta: JobEta) -> dict[str, str]:
    """Return the header with the seconds until a job is worth polling again; no header if it has ended."""
    if row.finished_at is not None:
        return {}
    seconds = max(MIN_POLL_SECONDS, min(MAX_POLL_SECONDS, math.ceil(eta.remaining_seconds)))
    return {"retry-after": str(seconds)}
