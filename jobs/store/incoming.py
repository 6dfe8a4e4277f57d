"""Incoming pictures: each waits for a worker, is refused by its header, or has its answer already."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobs import clock, errors, tables
from jobs.store import quotas, tallies
from jobs.store.sql import IMAGES, JOBS, MODELS, RESULTS, aside
from jobs.tables import Status

MOST_ASKED = 1000  # digests in one question: a database has a limit, and many large orders may come at once
Answers = Mapping[str, sa.Row[Any]]
"""Results by the SHA-256 of the bytes that they are of."""
COPIED = ("label", "confidence", "scores", "model", "model_version", "model_digest", "environment_id")
# The weights alone do not tell a version: one that is only calibrated anew has the same.
LIVE = sa.exists().where(
    MODELS.c.name == RESULTS.c.model,
    MODELS.c.stage == tables.Stage.LIVE.value,
    MODELS.c.version == RESULTS.c.model_version,
    MODELS.c.digest == RESULTS.c.model_digest,
)
RECALL = (
    sa.select(IMAGES.c.sha256, *[RESULTS.c[name] for name in COPIED])
    .select_from(IMAGES)
    .join(RESULTS, RESULTS.c.image_id == IMAGES.c.id)
    .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
    .where(
        IMAGES.c.sha256.in_(sa.bindparam("sha256s", expanding=True)),
        aside(JOBS.c.owner) == sa.bindparam("owner"),
        RESULTS.c.status == Status.DONE,
        # Of the image, not of its result, which says the same: SQLite would begin with all results of the model.
        IMAGES.c.model == sa.bindparam("model"),
        LIVE,
    )
)
OPEN = sa.insert(IMAGES)
ENDED = OPEN.returning(IMAGES.c.id, sort_by_parameter_order=True)
KNOWN = sa.insert(RESULTS).values(finished_at=clock.now())


@dataclass(frozen=True)
class NewImage:
    """One picture of an order; with an error if its header already condemns it."""

    name: str
    sha256: str
    bytes: int
    error: errors.BadPicture | None = None
    custom_id: str | None = None
    source: str | None = None
    """The name of the source in which its bytes lie; None if they lie among the blobs."""
    location: str | None = None


def recall(
    c: sa.Connection, orders: Iterable[tuple[tuple[str, str], Iterable[NewImage]]]
) -> Mapping[tuple[str, str], Answers]:
    """What owners know already, by owner and model: labels of the same bytes, by the very version that is live now."""
    wanted: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for of, images in orders:
        wanted[of].update(image.sha256 for image in images if image.error is None)
    found: dict[tuple[str, str], Answers] = {}
    for (owner, model), some in wanted.items():
        digests = list(some)
        answers: dict[str, sa.Row[Any]] = {}
        for at in range(0, len(digests), MOST_ASKED):
            asked = {"sha256s": digests[at : at + MOST_ASKED], "owner": owner, "model": model}
            answers |= {row.sha256: row for row in c.execute(RECALL, asked)}
        found[owner, model] = answers
    return found


def load(images: Sequence[NewImage]) -> quotas.Load:
    """How much these pictures are."""
    return quotas.Load(len(images), sum(image.bytes for image in images))


def counts(images: Sequence[NewImage], answers: Answers) -> dict[str, int]:
    """What these pictures add to the counters of their job."""
    failed = sum(image.error is not None for image in images)
    done = sum(image.error is None and image.sha256 in answers for image in images)
    return {"total": len(images), "done": done, "failed": failed, "bytes": sum(image.bytes for image in images)}


def insert(c: sa.Connection, orders: Sequence[tuple[sa.Row[Any], Sequence[NewImage], Answers]]) -> None:
    """Write the pictures of jobs, and the results of those that have one from the start."""
    every = [(job, image, answers) for job, images, answers in orders for image in images]
    open_ = [(job, image) for job, image, answers in every if not _is_ended(image, answers)]
    if open_:
        c.execute(OPEN, [_row(job, image, Status.QUEUED) for job, image in open_])
    ended = [(job, image, answers) for job, image, answers in every if _is_ended(image, answers)]
    if ended:
        rows = [_row(job, image, Status.FAILED if image.error else Status.DONE) for job, image, _ in ended]
        ids = c.execute(ENDED, rows).scalars()
        results = [_result(job, id_, image, answers) for id_, (job, image, answers) in zip(ids, ended, strict=True)]
        c.execute(KNOWN, results)
        tallies.add_results(c, results)


def _is_ended(image: NewImage, answers: Answers) -> bool:
    return image.error is not None or image.sha256 in answers


def _row(job: sa.Row[Any], image: NewImage, status: Status) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "name": image.name,
        "custom_id": image.custom_id,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "source": image.source,
        "location": image.location,
        "model": job.model,
        "priority": job.priority,
        "status": status.value,
        "attempt": 0,
    }


def _result(job: sa.Row[Any], image_id: int, image: NewImage, answers: Answers) -> dict[str, Any]:
    nothing = {**dict.fromkeys(COPIED), "model": job.model, "error_code": None, "error_detail": None}
    row = {**nothing, "image_id": image_id, "job_id": job.id, "timings": {}}
    if image.error is not None:
        refused = {"error_code": image.error.code, "error_detail": image.error.detail}
        return {**row, **refused, "status": Status.FAILED.value, "cached": False}
    answer = answers[image.sha256]
    return {**row, **{name: getattr(answer, name) for name in COPIED}, "status": Status.DONE.value, "cached": True}
