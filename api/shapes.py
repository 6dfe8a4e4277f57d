"""How a job, a result, a key and a model look as JSON; the types are what `/openapi.json` says of them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple
from urllib import parse

import pydantic
from typing_extensions import TypedDict

from jobs import clock, sources, tables
from jobs.store import forecast


def _meanings(kind: type[tables.Told], *only: str) -> str:
    """What the values of an enumeration mean, in one sentence."""
    return "; ".join(f"`{value}`: {meaning}" for value, meaning in kind.meanings().items() if not only or value in only)


LEAST_POLL_SECONDS, MOST_POLL_SECONDS = 1, 30
MOST_EXPECTED_SECONDS = 10 * 365 * 86_400  # beyond it a date may not be one
Count = Annotated[int, pydantic.Field(ge=0)]
Time = Annotated[str, pydantic.Field(json_schema_extra={"format": "date-time"}, examples=["2026-01-31T12:00:00.000Z"])]
Id = Annotated[str, pydantic.Field(examples=["019a0000-0000-7000-8000-000000000000"])]
Link = Annotated[str, pydantic.Field(json_schema_extra={"format": "uri"})]
HOST_ONLY = "; to a key of the role read only its host, because the rest may be a secret"
WEBHOOK = f"the URL that is told when the job has ended{HOST_ONLY}"


PRIORITY = "`interactive` is served before `bulk`"
STATUS_OF_RESULT = _meanings(tables.Status, "done", "failed", "cancelled", "expired")
STAGE = _meanings(tables.Stage)


class Counts(TypedDict):
    """How many pictures are in which state; the states sum to the total."""

    total: Annotated[Count, pydantic.Field(description="all pictures of the job")]
    queued: Annotated[Count, pydantic.Field(description="wait for a worker")]
    running: Annotated[Count, pydantic.Field(description="with a worker")]
    done: Annotated[Count, pydantic.Field(description="have a label")]
    failed: Annotated[Count, pydantic.Field(description="have an error")]
    cancelled: Annotated[Count, pydantic.Field(description="were called off")]
    expired: Annotated[Count, pydantic.Field(description="waited past the deadline")]


class Scan(TypedDict):
    """How a job is filled from a source, and how far that is."""

    source: Annotated[str, pydantic.Field(description="the name of the source", examples=["photos"])]
    prefix: Annotated[str, pydantic.Field(description="the folder in it; empty: all of it")]
    include: Annotated[list[str], pydantic.Field(description="globs: what is taken, whatever its suffix")]
    exclude: Annotated[list[str], pydantic.Field(description="globs: what is left alone")]
    status: Annotated[tables.ScanStatus, pydantic.Field(description="how far it is")]
    found: Annotated[Count, pydantic.Field(description="pictures so far, all of which are in the job")]
    skipped: Annotated[Count, pydantic.Field(description="files so far that were left alone")]
    error: Annotated[str | None, pydantic.Field(description="why it has failed, or what it waits for")]
    created_at: Annotated[Time, pydantic.Field(description="when it was ordered")]
    ended_at: Annotated[Time | None, pydantic.Field(description="null while it goes on")]


class Job(TypedDict):
    """A job: its status, its counts, and where to go with it."""

    id: Annotated[Id, pydantic.Field(description="of this job")]
    status: Annotated[tables.JobStatus, pydantic.Field(description="what has become of it as a whole")]
    counts: Annotated[Counts, pydantic.Field(description="how many of its pictures are in which state")]
    sealed: Annotated[
        bool, pydantic.Field(description="whether it takes no more pictures; until it is sealed it does not end")
    ]
    model: Annotated[str, pydantic.Field(description="the name of the model that it asks")]
    priority: Annotated[Literal["interactive", "bulk"], pydantic.Field(description=PRIORITY)]
    metadata: Annotated[dict[str, Any], pydantic.Field(description="as it was given")]
    status_url: Annotated[Link, pydantic.Field(description="this job")]
    results_url: Annotated[Link, pydantic.Field(description="its results, as far as they are there")]
    events_url: Annotated[Link, pydantic.Field(description="server-sent events")]
    images_url: Annotated[Link, pydantic.Field(description="where more pictures go while it is open")]
    seal_url: Annotated[Link, pydantic.Field(description="POST: these were all")]
    cancel_url: Annotated[Link, pydantic.Field(description="POST: call it off")]
    retry_url: Annotated[Link, pydantic.Field(description="POST: try again what got no label")]
    scan_url: Annotated[Link, pydantic.Field(description="POST: have it filled from a source")]
    scan: Annotated[Scan | None, pydantic.Field(description="how it is filled from a source; null if it is not")]
    retry_of: Annotated[Id | None, pydantic.Field(description="the job whose failed pictures these are")]
    webhook: Annotated[str | None, pydantic.Field(description=WEBHOOK)]
    created_at: Annotated[Time, pydantic.Field(description="when it was taken in")]
    sealed_at: Annotated[Time | None, pydantic.Field(description="since when it takes no more pictures")]
    started_at: Annotated[
        Time | None, pydantic.Field(description="when a worker took its first picture; null: none has")
    ]
    finished_at: Annotated[
        Time | None, pydantic.Field(description="when the last of its pictures had its result; null: it has not ended")
    ]
    expires_at: Annotated[
        Time | None, pydantic.Field(description="what no worker has taken by then expires; null: nothing does")
    ]
    queue_position: Annotated[
        int | None, pydantic.Field(description="how many pictures go before; null once it is over")
    ]
    estimated_finish: Annotated[
        Time | None, pydantic.Field(description="by what was done lately; null if nobody knows")
    ]
    earliest_finish: Annotated[
        Time | None, pydantic.Field(description="not before this, nineteen times in twenty, by how evenly it went")
    ]
    latest_finish: Annotated[
        Time | None, pydantic.Field(description="not after this; null if it went too unevenly for anybody to know")
    ]


class JobWithResults(Job, total=False):
    """A job; with its first results, if it was waited for and has ended."""

    results: Annotated[
        "list[Result]",
        pydantic.Field(description="the first 100, in the order in which its pictures came; `results_url` has all"),
    ]


class Fault(TypedDict):
    """Why a picture has no label: a stable code for machines, a sentence for people."""

    code: Annotated[str, pydantic.Field(description="one of the codes of pictures, such as `undecodable`")]
    detail: Annotated[str, pydantic.Field(description="a sentence, which may change")]


class Maker(TypedDict):
    """The model that made a result; version and digest are null where none came to see the picture."""

    name: Annotated[str, pydantic.Field(description="the model")]
    version: Annotated[str | None, pydantic.Field(description="its version")]
    digest: Annotated[str | None, pydantic.Field(description="SHA-256 of its weights")]


class Environment(TypedDict):
    """On what, and by which libraries, a result was made."""

    device: Annotated[str, pydantic.Field(description="what computed the network", examples=["NVIDIA H200"])]
    precision: Annotated[str, pydantic.Field(description="the numbers it computed with", examples=["bfloat16"])]
    torch: Annotated[str, pydantic.Field(description="the version of PyTorch", examples=["2.13.0+cu130"])]
    decoder: Annotated[str, pydantic.Field(description="what made pixels of the bytes")]
    sortbelt: Annotated[str, pydantic.Field(description="the version of the worker", examples=["0.1.0"])]


class Result(TypedDict):
    """What became of one picture: a label with its confidence, or an error."""

    id: Annotated[str, pydantic.Field(description="of this result")]
    image: Annotated[str, pydantic.Field(description="the name that the caller gave the picture")]
    image_id: Annotated[str, pydantic.Field(description="where its thumbnail is: /v1/images/{image_id}/thumbnail")]
    custom_id: Annotated[str | None, pydantic.Field(description="the caller's own identifier, if they gave one")]
    job_id: Annotated[Id, pydantic.Field(description="of its job")]
    status: Annotated[Literal["done", "failed", "cancelled", "expired"], pydantic.Field(description=STATUS_OF_RESULT)]
    label: Annotated[
        str | None, pydantic.Field(description="the likeliest of the model's labels; null if there is an error")
    ]
    confidence: Annotated[
        float | None,
        pydantic.Field(description="how sure the model is of the label, 0 to 1; null if there is an error"),
    ]
    scores: Annotated[
        dict[str, float] | None,
        pydantic.Field(description="by label, how likely it is; they sum to 1; null if there is an error"),
    ]
    error: Annotated[Fault | None, pydantic.Field(description="why there is no label; null if there is one")]
    model: Annotated[Maker, pydantic.Field(description="what it was made by")]
    cached: Annotated[
        bool, pydantic.Field(description="whether it was copied from an earlier result for the same bytes and weights")
    ]
    timings: Annotated[
        dict[str, float],
        pydantic.Field(
            description="`decode_ms`, and `forward_ms` of all pictures of its `batch`; empty if no worker had it"
        ),
    ]
    environment: Annotated[
        Environment | None, pydantic.Field(description="of a cached one, where it was made; null if no worker saw it")
    ]
    worker: Annotated[
        str | None, pydantic.Field(description="who took the picture up last; null if nobody did, or it was known")
    ]
    finished_at: Annotated[Time, pydantic.Field(description="when it was written")]


Quota = Annotated[
    int | None, pydantic.Field(description="null is what the server's settings say, 0 is no limit", examples=[600])
]


class Key(TypedDict):
    """A key, without the key."""

    id: Annotated[Id, pydantic.Field(description="of this key; no secret")]
    name: Annotated[str, pydantic.Field(description="as it was given")]
    role: Annotated[tables.Role, pydantic.Field(description="what it may do")]
    prefix: Annotated[str, pydantic.Field(description="how the key begins")]
    created_at: Annotated[Time, pydantic.Field(description="when it was made")]
    expires_at: Annotated[Time | None, pydantic.Field(description="from when on it is not valid; null is never")]
    revoked_at: Annotated[
        Time | None, pydantic.Field(description="since when it is not valid; null: it was not revoked")
    ]
    images_per_minute: Quota
    bytes_per_minute: Quota
    open_images: Quota
    open_bytes: Quota


class Holder(TypedDict):
    """Whose key it is that asks, and what it may do."""

    id: Annotated[Id, pydantic.Field(description="of the key; no secret")]
    name: Annotated[str, pydantic.Field(description="as it was given")]
    role: Annotated[tables.Role, pydantic.Field(description="what it may do")]


class NewKey(Key):
    """A key as it is shown once."""

    key: Annotated[str, pydantic.Field(description="the key itself: it is shown this once")]


class EndedCounts(TypedDict):
    """How the pictures of a job have ended; the states sum to the total."""

    total: Annotated[Count, pydantic.Field(description="all pictures of the job")]
    done: Annotated[Count, pydantic.Field(description="have a label")]
    failed: Annotated[Count, pydantic.Field(description="have an error")]
    cancelled: Annotated[Count, pydantic.Field(description="were called off")]
    expired: Annotated[Count, pydantic.Field(description="waited past the deadline")]


class EndedJob(TypedDict):
    """A job that has ended."""

    id: Annotated[Id, pydantic.Field(description="of this job")]
    status: Annotated[
        Literal["done", "failed", "cancelled", "expired"],
        pydantic.Field(description="what has become of it as a whole"),
    ]
    counts: Annotated[EndedCounts, pydantic.Field(description="how its pictures have ended")]
    model: Annotated[str, pydantic.Field(description="the name of the model that it asked")]
    priority: Annotated[Literal["interactive", "bulk"], pydantic.Field(description=PRIORITY)]
    metadata: Annotated[dict[str, Any], pydantic.Field(description="as it was given")]
    retry_of: Annotated[Id | None, pydantic.Field(description="the job whose failed pictures these are")]
    created_at: Annotated[Time, pydantic.Field(description="when it was taken in")]
    started_at: Annotated[
        Time | None, pydantic.Field(description="when a worker took its first picture; null: none has")
    ]
    finished_at: Annotated[Time, pydantic.Field(description="when it ended")]
    status_url: Annotated[Link, pydantic.Field(description="the job")]
    results_url: Annotated[Link, pydantic.Field(description="its results")]
    retry_url: Annotated[Link, pydantic.Field(description="POST: try again what got no label")]


class JobCompleted(TypedDict):
    """What a webhook tells: a job has ended, and its status says how."""

    type: Annotated[Literal["job.completed"], pydantic.Field(description="what is told")]
    timestamp: Annotated[Time, pydantic.Field(description="when the job ended")]
    data: Annotated[EndedJob, pydantic.Field(description="the job")]


class Delivery(TypedDict):
    """A webhook on its way: what has become of it so far."""

    id: Annotated[Id, pydantic.Field(description="its webhook-id, the same at every attempt")]
    job_id: Annotated[Id, pydantic.Field(description="the job that it tells of")]
    event: Annotated[Literal["job.completed"], pydantic.Field(description="what it tells")]
    url: Annotated[str, pydantic.Field(description=f"where it is sent{HOST_ONLY}")]
    status: Annotated[tables.DeliveryStatus, pydantic.Field(description="what has become of it")]
    attempts: Annotated[Count, pydantic.Field(description="how many there were")]
    response_status: Annotated[int | None, pydantic.Field(description="of the last answer; null if there was none")]
    error: Annotated[str | None, pydantic.Field(description="why the last attempt was in vain")]
    created_at: Annotated[Time, pydantic.Field(description="when the job ended")]
    attempted_at: Annotated[Time | None, pydantic.Field(description="when the last attempt was made")]
    next_attempt_at: Annotated[Time | None, pydantic.Field(description="when the next one is due; null: none is")]
    ended_at: Annotated[Time | None, pydantic.Field(description="when it was over; null while it is not")]
    replay_url: Annotated[Link, pydantic.Field(description="POST: send it once more")]


class Deliveries(TypedDict):
    """A page of deliveries."""

    deliveries: Annotated[list[Delivery], pydantic.Field(description="the newest first")]


class SigningSecret(TypedDict):
    """What webhooks are signed with."""

    secret: Annotated[
        str, pydantic.Field(description="keep it to yourself", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    ]
    created_at: Annotated[Time, pydantic.Field(description="when it was made")]
    previous_until: Annotated[
        Time | None, pydantic.Field(description="until when the secret before signs beside it; null if none does")
    ]


class Refusal(TypedDict):
    """A worker that cannot serve a version, and why."""

    worker: Annotated[str, pydantic.Field(description="its id")]
    reason: Annotated[str, pydantic.Field(description="a sentence")]


class Version(TypedDict):
    """A version of a model: its stage, and the workers that answer with it, or cannot."""

    name: Annotated[str, pydantic.Field(description="the model's")]
    version: Annotated[str, pydantic.Field(description="the version's")]
    digest: Annotated[str, pydantic.Field(description="SHA-256 of the weights")]
    stage: Annotated[Literal["candidate", "live", "shadow", "retired"], pydantic.Field(description=STAGE)]
    share: Annotated[float | None, pydantic.Field(description="of the pictures that it judges as a shadow")]
    labels: Annotated[list[str], pydantic.Field(description="what it can answer")]
    metrics: Annotated[dict[str, Any], pydantic.Field(description="as its bundle tells them")]
    built_in: Annotated[bool, pydantic.Field(description="whether it comes with the workers")]
    served_by: Annotated[list[str], pydantic.Field(description="ids of workers")]
    refused_by: Annotated[list[Refusal], pydantic.Field(description="workers that cannot serve it")]
    created_at: Annotated[Time, pydantic.Field(description="when it was taken in")]
    created_by: Annotated[str | None, pydantic.Field(description="the id of the key that brought it")]
    promoted_at: Annotated[Time | None, pydantic.Field(description="when it was made the live one; null: never")]


class Versions(TypedDict):
    """All versions of all models."""

    models: Annotated[list[Version], pydantic.Field(description="by name, the newest version first")]


class VersionName(TypedDict):
    """Which version of which model."""

    name: Annotated[str, pydantic.Field(description="the model's")]
    version: Annotated[str, pydantic.Field(description="the version's")]


class Pair(TypedDict):
    """The labels that two versions gave, and to how many pictures."""

    a: Annotated[str, pydantic.Field(description="the label by one version")]
    b: Annotated[str, pydantic.Field(description="the label by the other")]
    count: Annotated[Count, pydantic.Field(description="of pictures")]


class Sure(TypedDict):
    """A label, and how sure of it a version was."""

    label: Annotated[str, pydantic.Field(description="what it answered")]
    confidence: Annotated[float, pydantic.Field(description="how sure it was, 0 to 1")]


class Disagreement(TypedDict):
    """A picture to which two versions gave different labels."""

    image: Annotated[str, pydantic.Field(description="the picture's name")]
    job_id: Annotated[Id, pydantic.Field(description="the job that it is in")]
    a: Annotated[Sure, pydantic.Field(description="by one version")]
    b: Annotated[Sure, pydantic.Field(description="by the other")]


class Agreement(TypedDict):
    """How far two versions agree on the pictures that both judged."""

    a: Annotated[VersionName, pydantic.Field(description="one version")]
    b: Annotated[VersionName, pydantic.Field(description="the other")]
    compared: Annotated[Count, pydantic.Field(description="pictures that both judged")]
    agreeing: Annotated[Count, pydantic.Field(description="those of them with one label")]
    agreement: Annotated[float | None, pydantic.Field(description="agreeing / compared; null if none was compared")]
    mean_confidence: Annotated[dict[str, float | None], pydantic.Field(description="of `a` and of `b`")]
    matrix: Annotated[list[Pair], pydantic.Field(description="which labels how often")]
    errors: Annotated[dict[str, Any], pydantic.Field(description="how many pictures each could not judge")]


class Comparison(Agreement):
    """How far two versions agree, with a page of the pictures on which they do not."""

    disagreements: Annotated[list[Disagreement], pydantic.Field(description="a page of pictures")]


class Jobs(TypedDict):
    """A page of jobs."""

    jobs: Annotated[list[Job], pydantic.Field(description="the newest first")]


class Results(TypedDict):
    """A page of results."""

    results: Annotated[list[Result], pydantic.Field(description="in their order")]


class Stat(TypedDict):
    """How many results are of one kind; null where they have none, as what failed has no label."""

    key: Annotated[str | None, pydantic.Field(description="the kind: a label, a status …")]
    count: Annotated[Count, pydantic.Field(description="of results")]
    confidence: Annotated[float | None, pydantic.Field(description="the mean of those that have one")]


class Stats(TypedDict):
    """How many results there are of each kind."""

    group: Annotated[str, pydantic.Field(description="by what is counted")]
    stats: Annotated[list[Stat], pydantic.Field(description="each kind with its count")]


class Side(TypedDict):
    """What one of two jobs says of a picture."""

    label: Annotated[str | None, pydantic.Field(description="null if there is an error")]
    confidence: Annotated[float | None, pydantic.Field(description="0 to 1; null if there is an error")]


class Change(TypedDict):
    """A picture of which two jobs say different things."""

    image: Annotated[str, pydantic.Field(description="the picture's name")]
    a: Annotated[Side, pydantic.Field(description="by the one job")]
    b: Annotated[Side, pydantic.Field(description="by the other")]


class Changes(TypedDict):
    """A page of differences between two jobs."""

    changes: Annotated[list[Change], pydantic.Field(description="by name")]


class Source(TypedDict):
    """A place of the server whose pictures can be classified without being sent."""

    name: Annotated[str, pydantic.Field(description="what a scan calls it", examples=["photos"])]
    address: Annotated[str | None, pydantic.Field(description="where it is; for admins, else null")]


class Receipt(TypedDict):
    """That a job was purged: what of it there was, and when it went."""

    job_id: Annotated[Id, pydantic.Field(description="the job that was")]
    owner: Annotated[Id, pydantic.Field(description="the key that ordered it")]
    model: Annotated[str, pydantic.Field(description="that it asked")]
    images: Annotated[Count, pydantic.Field(description="its pictures, which are gone with their results")]
    bytes: Annotated[Count, pydantic.Field(description="of these pictures; those that another job has too are kept")]
    created_at: Annotated[Time, pydantic.Field(description="when it was taken in")]
    finished_at: Annotated[Time, pydantic.Field(description="when it ended")]
    purged_at: Annotated[Time, pydantic.Field(description="since when nobody sees it")]
    emptied_at: Annotated[Time | None, pydantic.Field(description="when the last of it had gone; null while it goes")]


class Receipts(TypedDict):
    """A page of receipts."""

    purges: Annotated[list[Receipt], pydantic.Field(description="the latest first")]


class Sources(TypedDict):
    """All sources."""

    sources: Annotated[list[Source], pydantic.Field(description="by name")]


class Digests(TypedDict):
    """Which of some SHA-256 are known."""

    known: Annotated[list[str], pydantic.Field(description="those that you have sent before")]
    missing: Annotated[list[str], pydantic.Field(description="those to be sent")]


class Keys(TypedDict):
    """All keys."""

    keys: Annotated[list[Key], pydantic.Field(description="the oldest first")]


def job(row: Any, root: str, outlook: forecast.Forecast | None, *, whole: bool = True) -> Job:
    """A job: its status, its counts, which sum to the total, and where to go with it.

    `root` is the server's URL; `whole` is whether all of its webhook's is told.
    """
    expected = _expected(row, outlook)
    counts: Counts = {
        "total": row.total,
        "queued": row.total - row.running - ended(row),
        "running": row.running,
        "done": row.done,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "expired": row.expired,
    }
    here = f"{root}v1/jobs/{row.id}"
    return {
        "id": row.id,
        "status": row.status,
        "counts": counts,
        "sealed": row.sealed_at is not None,
        "model": row.model,
        "priority": tables.Priority(row.priority).name.lower(),  # type: ignore[typeddict-item]  # those two there are
        "metadata": row.metadata,
        "status_url": here,
        "results_url": f"{here}/results",
        "events_url": f"{here}/events",
        "images_url": f"{here}/images",
        "seal_url": f"{here}/seal",
        "cancel_url": f"{here}/cancel",
        "retry_url": f"{here}/retry",
        "scan_url": f"{here}/scan",
        "scan": _scan(row),
        "retry_of": row.retry_of,
        "webhook": row.webhook if whole else _host(row.webhook),
        "created_at": moment(row.created_at),
        "sealed_at": time(row.sealed_at),
        "started_at": time(row.started_at),
        "finished_at": time(row.finished_at),
        "expires_at": time(row.expires_at),
        "queue_position": expected.position,
        "estimated_finish": time(expected.finish),
        "earliest_finish": time(expected.earliest),
        "latest_finish": time(expected.latest),
    }


def _host(url: str | None) -> str | None:
    """Of a URL only where it leads to: what follows may be a secret."""
    if url is None:
        return None
    split = parse.urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}/"


def _scan(row: Any) -> Scan | None:
    """How a job is filled from a source; None if it is not."""
    if row.scan_status is None:
        return None
    return {
        "source": row.scan_source,
        "prefix": row.scan_prefix,
        "include": row.scan_include,
        "exclude": row.scan_exclude,
        "status": row.scan_status,
        "found": row.scan_found,
        "skipped": row.scan_skipped,
        "error": row.scan_error,
        "created_at": moment(row.scan_created_at),
        "ended_at": time(row.scan_ended_at),
    }


def source(found: sources.Source, *, whole: bool) -> Source:
    """A source; only admins learn where it is."""
    return {"name": found.name, "address": found.address if whole else None}


class _Expected(NamedTuple):
    """How many pictures go before those of a job, and when it will be over; None if nobody knows."""

    position: int | None = None
    finish: datetime | None = None
    earliest: datetime | None = None
    latest: datetime | None = None


def _expected(row: Any, outlook: forecast.Forecast | None) -> _Expected:
    if outlook is None or row.finished_at is not None:
        return _Expected()
    position = outlook.position(row.priority, str(row.id))
    images = position + row.total - ended(row)
    between = outlook.pace.range(images) if row.sealed_at is not None else None
    if between is None:
        return _Expected(position)
    times = (outlook.pace.seconds(images), *between)
    return _Expected(position, *(_in(outlook.at, seconds) for seconds in times))


def _in(at: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None or seconds >= MOST_EXPECTED_SECONDS else at + timedelta(seconds=seconds)


def ended(row: Any) -> int:
    """How many pictures of a job have their result."""
    return int(row.done + row.failed + row.cancelled + row.expired)


def tag(row: Any) -> str:
    """The ETag of a job: another whenever something of it has changed but the forecasts."""
    counts = (row.total, row.running, row.done, row.failed, row.cancelled, row.expired)
    scan = (row.scan_status, row.scan_found, row.scan_skipped, row.scan_error)
    parts = (row.id, row.status, *counts, row.sealed_at, row.finished_at, *scan)
    return f'W/"{hashlib.blake2b(repr(parts).encode(), digest_size=9).hexdigest()}"'


def pace(row: Any, outlook: forecast.Forecast | None) -> dict[str, str]:
    """When to look at a job again, as a header: when it will be over, by what was done lately; nothing if it is."""
    if row.finished_at is not None:
        return {}
    finish = _expected(row, outlook).finish
    seconds = 0.0 if finish is None or outlook is None else (finish - outlook.at).total_seconds()
    return {"retry-after": str(max(LEAST_POLL_SECONDS, min(MOST_POLL_SECONDS, math.ceil(seconds))))}


def result(row: Any) -> Result:
    """A result: a label with its confidence, or an error with its code."""
    return {
        "id": str(row.image_id),
        "image": row.name,
        "image_id": str(row.image_id),
        "custom_id": row.custom_id,
        "job_id": row.job_id,
        "status": row.status,
        "label": row.label,
        "confidence": row.confidence,
        "scores": row.scores,
        "error": None if row.error_code is None else {"code": row.error_code, "detail": row.error_detail},
        "model": {"name": row.model, "version": row.model_version, "digest": row.model_digest},
        "cached": row.cached,
        "timings": row.timings,
        "environment": environment(row),
        "worker": row.worker,
        "finished_at": moment(row.finished_at),
    }


def environment(row: Any) -> Environment | None:
    """In which environment a result was made."""
    if row.environment_id is None:
        return None
    return {
        "device": row.device,
        "precision": row.precision,
        "torch": row.torch,
        "decoder": row.decoder,
        "sortbelt": row.sortbelt,
    }


def stat(row: Any) -> Stat:
    """A count."""
    return {"key": row.key, "count": row.count, "confidence": row.confidence}


def change(row: Any) -> Change:
    """A difference."""
    return {
        "image": row.name,
        "a": {"label": row.label_a, "confidence": row.confidence_a},
        "b": {"label": row.label_b, "confidence": row.confidence_b},
    }


def key(row: Any) -> Key:
    """A key, without the key."""
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "prefix": row.prefix,
        "created_at": moment(row.created_at),
        "expires_at": time(row.expires_at),
        "revoked_at": time(row.revoked_at),
        "images_per_minute": row.images_per_minute,
        "bytes_per_minute": row.bytes_per_minute,
        "open_images": row.open_images,
        "open_bytes": row.open_bytes,
    }


def delivery(row: Any, root: str, *, whole: bool = True) -> Delivery:
    """What has become of a webhook; `root` is the server's URL, `whole` whether all of the receiver's is told."""
    return {
        "id": row.id,
        "job_id": row.job_id,
        "event": row.event,
        "url": row.url if whole else str(_host(row.url)),
        "status": row.status,
        "attempts": row.attempts,
        "response_status": row.response_status,
        "error": row.error,
        "created_at": moment(row.created_at),
        "attempted_at": time(row.attempted_at),
        "next_attempt_at": time(row.next_at),
        "ended_at": time(row.ended_at),
        "replay_url": f"{root}v1/webhooks/deliveries/{row.id}/replay",
    }


def receipt(row: Any) -> Receipt:
    """What was purged."""
    return {
        "job_id": row.id,
        "owner": row.owner,
        "model": row.model,
        "images": row.total,
        "bytes": row.bytes,
        "created_at": moment(row.created_at),
        "finished_at": moment(row.finished_at),
        "purged_at": moment(row.purged_at),
        "emptied_at": time(row.emptied_at),
    }


def signing_secret(row: Any) -> SigningSecret:
    """What webhooks are signed with."""
    return {
        "secret": row.secret,
        "created_at": moment(row.created_at),
        "previous_until": time(row.previous_until) if row.overlaps else None,
    }


def model(row: Any, workers: Sequence[Any]) -> Version:
    """A version of a model, and the workers that answer with it, or cannot."""
    title = f"{row.name}@{row.version}"
    return {
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "stage": row.stage,
        "share": row.share,
        "labels": row.manifest["labels"],
        "metrics": row.manifest.get("metrics", {}),
        "built_in": row.files is None,
        "served_by": [worker.id for worker in workers if worker.serves.get(row.name) == row.version],
        "refused_by": [{"worker": w.id, "reason": w.refuses[title]} for w in workers if title in w.refuses],
        "created_at": moment(row.created_at),
        "created_by": row.creator,
        "promoted_at": time(row.promoted_at),
    }


def agreement(a: Any, b: Any, pairs: Sequence[Any], errors: Mapping[str, int]) -> Agreement:
    """How far two versions agree; `pairs` are the labels that they gave, with how many images and how sure."""
    compared = sum(pair.count for pair in pairs)
    agreeing = sum(pair.count for pair in pairs if pair.label_a == pair.label_b)
    sure = {side: sum(getattr(pair, f"sure_{side}") * pair.count for pair in pairs) for side in "ab"}
    return {
        "a": {"name": a.name, "version": a.version},
        "b": {"name": b.name, "version": b.version},
        "compared": compared,
        "agreeing": agreeing,
        "agreement": agreeing / compared if compared else None,
        "mean_confidence": {side: total / compared if compared else None for side, total in sure.items()},
        "matrix": [{"a": pair.label_a, "b": pair.label_b, "count": pair.count} for pair in pairs],
        "errors": dict(errors),
    }


def disagreement(row: Any) -> Disagreement:
    """An image to which two versions gave different labels."""
    return {
        "image": row.name,
        "job_id": row.job_id,
        "a": {"label": row.label_a, "confidence": row.sure_a},
        "b": {"label": row.label_b, "confidence": row.sure_b},
    }


def moment(given: datetime) -> str:
    """RFC 3339, in UTC."""
    return clock.written(given)


def time(given: datetime | None) -> str | None:
    """RFC 3339, in UTC; None if it has not come yet."""
    return None if given is None else moment(given)
