"""New images: each is queued, rejected by its header check, or answered from the cache."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core import enums
from core.db import clock, prepared
from core.db.expressions import IMAGES, IS_DONE, MODELS, RESULTS, URL_FETCHES, is_owned_by, json_item, parameter_rows
from core.db.job_row import JobRow
from core.db.new_image import UNREAD_DIGEST, NewImage
from core.db.queries import counters, quotas
from core.enums import Status

CachedResults = Mapping[str, Mapping[str, Any]]
"""The columns of results that are copied, by the SHA-256 of the image bytes."""
COPIED_COLUMNS = ["label", "confidence", "scores", "familiarity", "model_name", "model_version", "model_digest"]
COPIED_COLUMNS += ["environment_id"]
# The weights alone do not identify a version: one that is only recalibrated has the same.
IS_LIVE_VERSION = sa.exists().where(
    MODELS.c.name == RESULTS.c.model_name,
    MODELS.c.stage == enums.Stage.LIVE.value,
    MODELS.c.version == RESULTS.c.model_version,
    MODELS.c.digest == RESULTS.c.model_digest,
)
MAX_CANDIDATES = 100
"""How many images with the same bytes, the newest, are looked at for a result of the live version."""
KEYS = parameter_rows("keys")
KEY_COLUMNS = [IMAGES.c.api_key_id, IMAGES.c.model_name, IMAGES.c.sha256]
OWNER, MODEL, DIGEST = [json_item(KEYS.c.value, index, column) for index, column in enumerate(KEY_COLUMNS)]
CANDIDATES = (
    sa.select(IMAGES.c.id)
    .where(IMAGES.c.sha256 == DIGEST, IMAGES.c.model_name == MODEL, is_owned_by(OWNER), IS_DONE)
    .order_by(IMAGES.c.api_key_id.desc(), IMAGES.c.id.desc())
    .limit(MAX_CANDIDATES)
    .correlate(KEYS)
    .lateral("candidates")
)
FOUND_ID = (
    sa.select(RESULTS.c.image_id)
    .select_from(CANDIDATES.join(RESULTS, RESULTS.c.image_id == CANDIDATES.c.id))
    .where(RESULTS.c.status == Status.DONE, IS_LIVE_VERSION)
    .limit(1)
    .correlate(KEYS)
    .scalar_subquery()
)
# Materialized: else it is evaluated again for each use of the id.
FOUND = sa.select(FOUND_ID.label("id")).select_from(KEYS).cte("found").prefix_with("MATERIALIZED")
CACHED_COLUMNS = [*KEY_COLUMNS, *[RESULTS.c[name] for name in COPIED_COLUMNS]]
SELECT_CACHED = prepared.Prepared(
    sa.select(*CACHED_COLUMNS)
    .select_from(FOUND)
    .join(IMAGES, IMAGES.c.id == FOUND.c.id)
    .join(RESULTS, RESULTS.c.image_id == FOUND.c.id),
    CACHED_COLUMNS,
)
IMAGE_NAMES = ["job_id", "api_key_id", "name", "custom_id", "sha256", "bytes", "source", "location", "model_name"]
IMAGE_NAMES += ["priority", "status", "attempt"]
INSERT_QUEUED = prepared.Prepared(sa.insert(IMAGES), sets=IMAGE_NAMES)
INSERT_IMAGES_RETURNING = sa.insert(IMAGES).returning(IMAGES.c.id, sort_by_parameter_order=True)
INSERT_RESULTS = sa.insert(RESULTS).values(finished_at=clock.now())


def lookup_cached(
    conn: sa.Connection, submissions: Iterable[tuple[tuple[str, str], Iterable[NewImage]]]
) -> Mapping[tuple[str, str], CachedResults]:
    """Look up cached results by owner and model: labels of the same bytes, made by the version that is live now."""
    cached_by_key: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    keys: set[tuple[str, str, str]] = set()
    for key, images in submissions:
        cached_by_key[key] = {}
        digests = {image.sha256 for image in images if image.error is None}
        keys.update([(*key, digest) for digest in digests - {UNREAD_DIGEST}])
    if keys:
        params = {"keys": [json.dumps(key) for key in keys]}
        for owner, model, sha256, *values in SELECT_CACHED.execute(conn, params):
            cached_by_key[owner, model][sha256] = dict(zip(COPIED_COLUMNS, values, strict=True))
    return cached_by_key


def total_load(images: Sequence[NewImage]) -> quotas.Load:
    """Sum up the number and the bytes of these images."""
    return quotas.Load(len(images), sum(image.bytes for image in images))


def initial_counts(images: Sequence[NewImage], cached: CachedResults) -> dict[str, int]:
    """Return what these images add to the counters of their job."""
    failed = sum(image.error is not None for image in images)
    done = sum(image.error is None and image.sha256 in cached for image in images)
    return {"total": len(images), "done": done, "failed": failed, "bytes": sum(image.bytes for image in images)}


def insert(conn: sa.Connection, submissions: Sequence[tuple[JobRow, Sequence[NewImage], CachedResults]]) -> None:
    """Insert the images of jobs, and the results of those that have one from the start."""
    queued: list[dict[str, Any]] = []
    fetched: list[tuple[JobRow, NewImage]] = []
    final: list[tuple[JobRow, NewImage, CachedResults]] = []
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
        INSERT_QUEUED.execute_many(conn, queued)
    if final:
        rows = [_image_row(job, image, Status.FAILED if image.error else Status.DONE) for job, image, _ in final]
        ids = conn.execute(INSERT_IMAGES_RETURNING, rows).scalars()
        results = [_result_row(job, id_, image, cached) for id_, (job, image, cached) in zip(ids, final, strict=True)]
        conn.execute(INSERT_RESULTS, results)
        counters.count_results(conn, results)


def _insert_fetched(conn: sa.Connection, images: Sequence[tuple[JobRow, NewImage]]) -> None:
    """Insert images whose bytes are still to be fetched, and their fetches."""
    rows = [_image_row(job, image, Status.QUEUED) for job, image in images]
    ids = conn.execute(INSERT_IMAGES_RETURNING, rows).scalars().all()
    fetches = [(id_, str(image.url), str(job.api_key_id)) for id_, (job, image) in zip(ids, images, strict=True)]
    insert_fetches(conn, fetches)


def insert_fetches(conn: sa.Connection, fetches: Iterable[tuple[int, str, str]]) -> None:
    """Insert the fetches of new images, by the id of each image, its URL and its key; each is due at once."""
    new = {"status": "pending", "attempts": 0}
    rows = [
        {"id": str(uuids.uuid7()), "image_id": image_id, "url": url, "api_key_id": owner, **new}
        for image_id, url, owner in fetches
    ]
    if rows:
        conn.execute(sa.insert(URL_FETCHES).values(next_attempt_at=clock.now()), rows)


def _image_row(job: JobRow, image: NewImage, status: Status) -> dict[str, Any]:
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


def _result_row(job: JobRow, image_id: int, image: NewImage, cached: CachedResults) -> dict[str, Any]:
    defaults = {**dict.fromkeys(COPIED_COLUMNS), "model_name": job.model, "error_code": None, "error_detail": None}
    row: dict[str, Any] = {**defaults, "image_id": image_id, "job_id": job.id, "timings": {}}
    if image.error is not None:
        error_values = {"error_code": image.error.code, "error_detail": image.error.detail}
        return {**row, **error_values, "status": Status.FAILED.value, "cached": False}
    return {
        **row,
        **cached[image.sha256],
        "status": Status.DONE.value,
        "cached": True,
    }
