"""New images: each is queued, rejected by its header check, or answered from the cache."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import enums
from core.db import clock
from core.db.expressions import IMAGES, JOBS, MODELS, RESULTS, URL_FETCHES, no_index
from core.db.new_image import NewImage
from core.db.queries import counters, quotas
from core.enums import Status

MAX_DIGESTS_PER_QUERY = 1000  # parameters of a statement are limited, and large submissions may be committed together
CachedResults = Mapping[str, sa.Row[Any]]
"""Results by the SHA-256 of the image bytes."""
COPIED_COLUMNS = ["label", "confidence", "scores", "familiarity", "model_name", "model_version", "model_digest"]
COPIED_COLUMNS += ["environment_id"]
# The weights alone do not identify a version: one that is only recalibrated has the same.
IS_LIVE_VERSION = sa.exists().where(
    MODELS.c.name == RESULTS.c.model_name,
    MODELS.c.stage == enums.Stage.LIVE.value,
    MODELS.c.version == RESULTS.c.model_version,
    MODELS.c.digest == RESULTS.c.model_digest,
)
SELECT_CACHED = (
    sa.select(IMAGES.c.sha256, *[RESULTS.c[name] for name in COPIED_COLUMNS])
    .select_from(IMAGES)
    .join(RESULTS, RESULTS.c.image_id == IMAGES.c.id)
    .join(JOBS, JOBS.c.id == IMAGES.c.job_id)
    .where(
        IMAGES.c.sha256.in_(sa.bindparam("sha256s", expanding=True)),
        no_index(JOBS.c.api_key_id) == sa.bindparam("owner"),
        RESULTS.c.status == Status.DONE,
        # Of the image, not of its result, which is the same: SQLite would start with all results of the model.
        IMAGES.c.model_name == sa.bindparam("model"),
        IS_LIVE_VERSION,
    )
)
INSERT_IMAGES = sa.insert(IMAGES)
INSERT_IMAGES_RETURNING = INSERT_IMAGES.returning(IMAGES.c.id, sort_by_parameter_order=True)
INSERT_RESULTS = sa.insert(RESULTS).values(finished_at=clock.now())


def lookup_cached(
    conn: sa.Connection, submissions: Iterable[tuple[tuple[str, str], Iterable[NewImage]]]
) -> Mapping[tuple[str, str], CachedResults]:
    """Look up cached results by owner and model: labels of the same bytes, made by the version that is live now."""
    digests_by_key: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for key, images in submissions:
        digests_by_key[key].update(image.sha256 for image in images if image.error is None)
    cached_by_key: dict[tuple[str, str], CachedResults] = {}
    for (owner, model), sha256s in digests_by_key.items():
        digests = list(sha256s)
        cached: dict[str, sa.Row[Any]] = {}
        for offset in range(0, len(digests), MAX_DIGESTS_PER_QUERY):
            params = {"sha256s": digests[offset : offset + MAX_DIGESTS_PER_QUERY], "owner": owner, "model": model}
            cached |= {row.sha256: row for row in conn.execute(SELECT_CACHED, params)}
        cached_by_key[owner, model] = cached
    return cached_by_key


def total_load(images: Sequence[NewImage]) -> quotas.Load:
    """Sum up the number and the bytes of these images."""
    return quotas.Load(len(images), sum(image.bytes for image in images))


def initial_counts(images: Sequence[NewImage], cached: CachedResults) -> dict[str, int]:
    """Return what these images add to the counters of their job."""
    failed = sum(image.error is not None for image in images)
    done = sum(image.error is None and image.sha256 in cached for image in images)
    return {"total": len(images), "done": done, "failed": failed, "bytes": sum(image.bytes for image in images)}


def insert(conn: sa.Connection, submissions: Sequence[tuple[sa.Row[Any], Sequence[NewImage], CachedResults]]) -> None:
    """Insert the images of jobs, and the results of those that have one from the start."""
    queued: list[dict[str, Any]] = []
    fetched: list[tuple[sa.Row[Any], NewImage]] = []
    final: list[tuple[sa.Row[Any], NewImage, CachedResults]] = []
    for job, images, cached in submissions:
        for image in images:
            if image.error is not None or image.sha256 in cached:
                final.append((job, image, cached))
            elif image.url is not None:
                fetched.append((job, image))
            else:
                queued.append(_image_row(job, image, Status.QUEUED))
    if fetched:
        _insert_fetched(conn, fetched)
    if queued:
        conn.execute(INSERT_IMAGES, queued)
    if final:
        rows = [_image_row(job, image, Status.FAILED if image.error else Status.DONE) for job, image, _ in final]
        ids = conn.execute(INSERT_IMAGES_RETURNING, rows).scalars()
        results = [_result_row(job, id_, image, answers) for id_, (job, image, answers) in zip(ids, final, strict=True)]
        conn.execute(INSERT_RESULTS, results)
        counters.count_results(conn, results)


def _insert_fetched(conn: sa.Connection, images: Sequence[tuple[sa.Row[Any], NewImage]]) -> None:
    """Insert images whose bytes are still to be fetched, and their fetches."""
    rows = [_image_row(job, image, Status.QUEUED) for job, image in images]
    ids = conn.execute(INSERT_IMAGES_RETURNING, rows).scalars().all()
    insert_fetches(conn, {id_: str(image.url) for id_, (_, image) in zip(ids, images, strict=True)})


def insert_fetches(conn: sa.Connection, urls_by_image: Mapping[int, str]) -> None:
    """Insert the fetches of the bytes of new images, by the id of the image; each is due at once."""
    rows = [
        {"id": str(uuids.uuid7()), "image_id": image_id, "url": url, "status": "pending", "attempts": 0}
        for image_id, url in urls_by_image.items()
    ]
    if rows:
        conn.execute(sa.insert(URL_FETCHES).values(next_attempt_at=clock.now()), rows)


def _image_row(job: sa.Row[Any], image: NewImage, status: Status) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "api_key_id": job.api_key_id,
        "name": image.name,
        "custom_id": image.custom_id,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "source": image.source,
        "location": image.location,
        "model_name": job.model,
        "priority": job.priority,
        "status": status.value,
        "attempt": 0,
    }


def _result_row(job: sa.Row[Any], image_id: int, image: NewImage, cached: CachedResults) -> dict[str, Any]:
    defaults = {**dict.fromkeys(COPIED_COLUMNS), "model_name": job.model, "error_code": None, "error_detail": None}
    row = {**defaults, "image_id": image_id, "job_id": job.id, "timings": {}}
    if image.error is not None:
        error_values = {"error_code": image.error.code, "error_detail": image.error.detail}
        return {**row, **error_values, "status": Status.FAILED.value, "cached": False}
    cached_row = cached[image.sha256]
    return {
        **row,
        **{name: getattr(cached_row, name) for name in COPIED_COLUMNS},
        "status": Status.DONE.value,
        "cached": True,
    }
