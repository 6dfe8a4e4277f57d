"""Sans-I/O operations of the client: requests with their parsers, and generators for what needs several steps.

A generator yields a `Request` to send, seconds to sleep, a function to run (in a thread, in event loops), or a `Yield`
for the caller. It is sent the outcome, and returns the result of the operation. `Client` and `AsyncClient` run both.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, Generic, NamedTuple, TypeVar

import httpx

from sortbelt import errors
from sortbelt.client import bundle_files, image_files, inputs, listing, multipart, responses, transport

API_PATH = "/v1/"
PAGE_SIZE = 500  # rows per request
MAX_SELECTED = 1_000  # images on which one request acts
MIN_POLL_SECONDS = 0.1
POLL_FRACTION = 0.1  # poll interval as a share of the time waited so far

T = TypeVar("T")
Operation = Generator[Any, Any, T]
File = str | os.PathLike[str] | tuple[str, bytes]
Input = File | bytes | IO[bytes] | Any  # the last is a PIL image, which need not be installed
Files = Input | Iterable[Input]


class Request(NamedTuple, Generic[T]):
    """Request with the parser of its response; `options` are those of `transport.Transport.request`."""

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    options: Mapping[str, Any] = MappingProxyType({})


class Yield(NamedTuple, Generic[T]):
    """Value for the caller of an iterating operation."""

    value: T


def open_job(idempotency_key: str | None = None, **job_options: Any) -> Request[responses.Job]:
    """Create an open job without images."""
    return _create_job(idempotency_key, json={"open": True, **drop_none(job_options)})


def add_images(
    job_id: str, batch: Sequence[image_files.Image | File], custom_ids: Mapping[str, str] | None = None
) -> Operation[responses.Job]:
    """Add images to an open job."""
    body = yield lambda: _multipart_body(list(_to_images(batch)), custom_ids or {})
    updated_job: responses.Job = yield Request("POST", _job_path(job_id, "images"), _parse_job, {"body": body})
    return updated_job


def add_known(
    job_id: str, named_digests: Sequence[tuple[str, str]], custom_ids: Mapping[str, str] | None = None
) -> Request[responses.Job]:
    """Add images whose bytes the server has to an open job."""
    ids = custom_ids or {}
    entries = [
        drop_none({"name": name, "sha256": digest, "custom_id": ids.get(name)}) for name, digest in named_digests
    ]
    return Request("POST", _job_path(job_id, "images"), _parse_job, {"json": {"images": entries}})


def known_blobs(digests: Sequence[str]) -> Request[set[str]]:
    """Return the digests whose bytes the server has."""
    return Request(
        "POST", "/v1/blobs/check", lambda response: set(response.json()["known"]), {"json": {"sha256": list(digests)}}
    )


def rename(job_id: str, name: str | None) -> Request[responses.Job]:
    """Change the name of a job."""
    return Request("PATCH", _job_path(job_id), _parse_job, {"json": {"name": name}})


def delete_job(job_id: str) -> Request[responses.PurgeRecord]:
    """Delete a job."""
    return Request("DELETE", _job_path(job_id), lambda response: responses.PurgeRecord.from_json(response.json()))


def delete_image(image_id: str) -> Request[dict[str, Any]]:
    """Delete an image."""
    return Request("DELETE", f"/v1/images/{_quote_segment(image_id)}", _parse_dict)


def job(job_id: str) -> Request[responses.Job]:
    """Get a job."""
    return Request("GET", _job_path(job_id), _parse_job)


def change_job_state(job_id: str, action: str) -> Request[responses.Job]:
    """Seal, cancel or retry a job."""
    return Request("POST", _job_path(job_id, action), _parse_job)


def sources() -> Request[list[responses.Source]]:
    """List the sources of the server."""
    return Request(
        "GET", "/v1/sources", lambda response: list(map(responses.Source.from_json, response.json()["sources"]))
    )


def scan(
    job_id: str, source: str, prefix: str, include: Sequence[str], exclude: Sequence[str], *, seal: bool
) -> Request[responses.Job]:
    """Let the server fill an open job from a source."""
    body = {"source": source, "prefix": prefix, "include": list(include), "exclude": list(exclude), "seal": seal}
    return Request("POST", _job_path(job_id, "scan"), _parse_job, {"json": body})


def verify(result_id: str) -> Request[responses.Job]:
    """Create a job that classifies the image of a result again, alone."""
    path = f"/v1/results/{_quote_segment(result_id)}/verify"
    return Request("POST", path, _parse_job, {"repeatable": False})


def submit(
    files: Files, custom_ids: Mapping[str, str] | None = None, *, wait: bool, **job_options: Any
) -> Operation[responses.Job]:
    """Create a job with images, in as many requests as they need."""
    batches = yield lambda: list(image_files.batches(image_files.from_files(inputs.expand(files))))
    if not batches:
        raise errors.BadInput("There are no images: name at least one.", "no_images")
    ids = custom_ids or {}
    if unknown := ids.keys() - {image.name for batch in batches for image in batch}:
        raise errors.BadInput(
            f"custom_ids has {min(unknown)!r}, which is not the name of an image: use the names in the job.",
            "bad_custom_id",
        )
    if len(batches) == 1:
        chosen = drop_none(job_options)
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in chosen.items()}
        body = yield lambda: _multipart_body(batches[0], ids, fields)
        new_job = yield _create_job(body=body)
    else:
        new_job = yield open_job(**job_options)
        try:
            for batch in batches:
                yield from add_images(new_job.id, batch, ids)
            new_job = yield change_job_state(new_job.id, "seal")
        except BaseException as error:
            error.add_note(f"What was sent is in the open job {new_job.id}: `sortbelt cancel {new_job.id}` ends it.")
            raise
    return (yield from wait_for(new_job.id)) if wait else new_job


def watch(job_id: str) -> Operation[None]:
    """Poll a job; yield it each time, at last when it has ended."""
    started_at = time.monotonic()
    request = Request(
        "GET", _job_path(job_id), lambda response: (_parse_job(response), transport.retry_after(response))
    )
    while True:
        current_job, retry_after = yield request
        yield Yield(current_job)
        if current_job.ended:
            return
        yield max(MIN_POLL_SECONDS, min(retry_after or 1.0, (time.monotonic() - started_at) * POLL_FRACTION))


def wait_for(
    job_id: str, timeout: float | None = None, on_update: Callable[[responses.Job], None] | None = None
) -> Operation[responses.Job]:
    """Wait until a job has ended."""
    started_at, operation, outcome = time.monotonic(), watch(job_id), None
    while True:
        step = operation.send(outcome)
        if not isinstance(step, Yield):
            outcome = yield step
            continue
        outcome, current_job = None, step.value
        if on_update:
            on_update(current_job)
        if current_job.ended:
            return current_job  # type: ignore[no-any-return]  # `watch` yields jobs
        if timeout is not None and time.monotonic() - started_at >= timeout:
            raise errors.WaitTimeout(
                f"Job {job_id} has not ended after {timeout:g} s: wait longer, or check the workers."
            )


def jobs(filters: Mapping[str, Any]) -> Operation[None]:
    """Yield jobs, newest first."""
    return _paginate("/v1/jobs", "jobs", filters, responses.Job.from_json)


def results(job_id: str | None, filters: Mapping[str, Any]) -> Operation[None]:
    """Yield the results of one job, or without one of all."""
    path, params = results_location(job_id, filters)
    if job_id and "job" in params:
        yield job(job_id)  # raises NotFound; a search for an unknown job is merely empty
    yield from _paginate(path, "results", params, responses.Result.from_json)


def results_location(job_id: str | None, filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return path and query parameters; a job's own list has no filters, so that filtered results are searched."""
    params = drop_none(filters)
    if job_id and params.keys() <= {"limit"}:
        return _job_path(job_id, "results"), params
    return "/v1/results", drop_none({"job": job_id, **params})


def diff(job_a: str, job_b: str) -> Operation[None]:
    """Yield the images whose labels differ between two jobs, or that only one of them has."""
    path = _job_path(job_a, "diff", _quote_segment(job_b))
    return _paginate(path, "changes", {"only_in_one": True}, responses.JobDifference.from_json)


def label_pairs(job_a: str, job_b: str) -> Request[dict[str, Any]]:
    """Count the images of two jobs by their labels."""
    path = _job_path(job_a, "diff", _quote_segment(job_b), "pairs")
    return Request("GET", path, _parse_dict)


def stats(group: str, by: str | None, filters: Mapping[str, Any]) -> Request[listing.Stats]:
    """Count results by group."""
    return Request(
        "GET",
        "/v1/stats",
        lambda response: listing.Stats(response.json()["stats"]),
        {"params": drop_none({"group": group, "by": by, **filters})},
    )


def review(result_id: str, label: str | None, verdict: str, note: str | None) -> Request[responses.Result]:
    """Review a result."""
    body = drop_none({"verdict": verdict, "label": label, "note": note})
    return Request("PUT", _review_path(result_id), _parse_result, {"json": body})


def withdraw_review(result_id: str) -> Request[responses.Result]:
    """Withdraw the review of a result."""
    return Request("DELETE", _review_path(result_id), _parse_result)


def review_images(
    image_ids: Iterable[str], label: str | None, verdict: str, note: str | None
) -> Operation[dict[str, Any]]:
    """Give images the same review."""
    body = drop_none({"verdict": verdict, "label": label, "note": note})
    return _act_on_images("review", image_ids, body, {"reviewed": 0, "failed": []})


def delete_images(image_ids: Iterable[str]) -> Operation[dict[str, Any]]:
    """Delete images."""
    return _act_on_images("delete", image_ids, {}, {"deleted": [], "failed": []})


def resubmit_images(
    image_ids: Iterable[str], idempotency_key: str | None = None, **job_options: Any
) -> Request[responses.Job]:
    """Create a job that classifies images again."""
    body = {"images": list(image_ids), **drop_none(job_options)}
    return _create_job(idempotency_key, path=_selection_path("resubmit"), json=body)


def archive_location(image_ids: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Return path and JSON body of an archive of images."""
    return _selection_path("archive"), {"images": list(image_ids)}


def batched(image_ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield ids in lists that are small enough for one request."""
    ids = iter(image_ids)
    while batch := list(itertools.islice(ids, MAX_SELECTED)):
        yield batch


def reviews(filters: Mapping[str, Any]) -> Operation[None]:
    """Yield reviews, newest first."""
    return _paginate("/v1/reviews", "reviews", filters, responses.Review.from_json)


def review_queue(strategy: str, model: str | None, limit: int) -> Request[list[responses.Result]]:
    """Lease images to review."""
    return Request(
        "GET",
        "/v1/reviews/queue",
        lambda response: list(map(responses.Result.from_json, response.json()["results"])),
        {"params": drop_none({"strategy": strategy, "model": model, "limit": limit})},
    )


def review_stats(filters: Mapping[str, Any]) -> Request[list[dict[str, Any]]]:
    """Get what reviews say of each version."""
    return Request(
        "GET",
        "/v1/reviews/stats",
        lambda response: list(response.json()["versions"]),
        {"params": drop_none(filters)},
    )


def image_bytes(image_id: str) -> Request[bytes]:
    """Get an image as it was submitted."""
    return Request("GET", f"/v1/images/{_quote_segment(image_id)}/file", lambda response: response.content)


def deliveries(job_id: str | None, status: str | None) -> Operation[None]:
    """Yield webhook deliveries of one job or of all."""
    if job_id is not None:
        yield job(job_id)  # raises NotFound; the list of an unknown job is merely empty
    filters = {"job": job_id, "status": status}
    yield from _paginate("/v1/webhooks/deliveries", "deliveries", filters, responses.WebhookDelivery.from_json)


def purges() -> Operation[None]:
    """Yield records of purged jobs, latest first."""
    return _paginate("/v1/purges", "purges", {}, responses.PurgeRecord.from_json)


def replay(delivery_id: str) -> Request[responses.WebhookDelivery]:
    """Send a delivery again."""
    path = f"/v1/webhooks/deliveries/{_quote_segment(delivery_id)}/replay"
    return Request("POST", path, lambda response: responses.WebhookDelivery.from_json(response.json()))


def webhook_secret() -> Request[str]:
    """Get the signing secret."""
    return Request("GET", "/v1/webhooks/secret", lambda response: str(response.json()["secret"]))


def rotate_webhook_secret() -> Request[str]:
    """Create a new signing secret."""
    path = "/v1/webhooks/secret/rotate"
    return Request("POST", path, lambda response: str(response.json()["secret"]), {"repeatable": False})


def keys() -> Operation[None]:
    """Yield all keys."""
    return _paginate("/v1/keys", "keys", None, responses.Key.from_json)


def create_key(name: str, role: str, limits: Mapping[str, float | None]) -> Request[responses.Key]:
    """Create a key."""
    return Request(
        "POST", "/v1/keys", _parse_key, {"json": {"name": name, "role": role, **limits}, "repeatable": False}
    )


def change_key(key_id: str, changes: Mapping[str, str | float | None]) -> Request[responses.Key]:
    """Change a key."""
    return Request("PATCH", f"/v1/keys/{_quote_segment(key_id)}", _parse_key, {"json": dict(changes)})


def revoke_key(key_id: str) -> Request[responses.Key]:
    """Revoke a key."""
    return Request("DELETE", f"/v1/keys/{_quote_segment(key_id)}", _parse_key)


def list_models() -> Operation[None]:
    """Yield all versions of all models."""
    return _paginate("/v1/models", "models", None, responses.ModelVersion.from_json)


def add_model(bundle: str | os.PathLike[str]) -> Operation[responses.ModelVersion]:
    """Add a bundle as a new version."""
    body = yield lambda: multipart.Multipart(bundle_files.read_bundle(bundle), field_name="files")
    model_version: responses.ModelVersion = yield Request("POST", "/v1/models", _parse_version, {"body": body})
    return model_version


def promote_model(name: str, version: str, *, force: bool) -> Request[responses.ModelVersion]:
    """Make a version the live one."""
    return Request(
        "POST",
        _model_path(name, "promote"),
        _parse_version,
        {"json": {"version": version, "force": force} if force else {"version": version}},
    )


def rollback_model(name: str) -> Request[responses.ModelVersion]:
    """Make the version live that was so before."""
    return Request("POST", _model_path(name, "rollback"), _parse_version, {"repeatable": False})


def shadow_model(name: str, version: str, share: float) -> Request[responses.ModelVersion]:
    """Let a version classify a share of the images beside the live one."""
    return Request("POST", _model_path(name, "shadow"), _parse_version, {"json": {"version": version, "share": share}})


def compare_models(a: str, b: str, limit: int) -> Operation[responses.ModelComparison]:
    """Compare two versions, with the first images on which they disagree."""
    path, params = "/v1/models/compare", {"a": a, "b": b, "limit": min(limit, PAGE_SIZE)}
    raw, path = yield Request(
        "GET", path, lambda response: (response.json(), _next_page_path(response)), {"params": params}
    )
    while path and len(raw["disagreements"]) < limit:
        next_rows, path = yield Request(
            "GET", path, lambda response: (response.json()["disagreements"], _next_page_path(response))
        )
        raw["disagreements"] += next_rows
    return responses.ModelComparison.from_json({**raw, "disagreements": raw["disagreements"][:limit]})


def drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _act_on_images(
    action: str, image_ids: Iterable[str], body: Mapping[str, Any], outcome: dict[str, Any]
) -> Operation[dict[str, Any]]:
    """Send images in as many requests as they need; add the counts and lists of the responses to the outcome."""
    for batch in batched(image_ids):
        response = yield Request("POST", _selection_path(action), _parse_dict, {"json": {"images": batch, **body}})
        outcome = {name: total + response[name] for name, total in outcome.items()}
    return outcome


def _create_job(idempotency_key: str | None = None, path: str = "/v1/jobs", **options: Any) -> Request[responses.Job]:
    # The key makes a retry harmless: the server returns the job that it created for the first request.
    headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    return Request("POST", path, _parse_job, {"headers": headers, **options})


def _paginate(
    path: str, list_key: str, filters: Mapping[str, Any] | None, parse: Callable[[Any], Any]
) -> Operation[None]:
    """Yield the rows of a list, page by page; `filters` is None for a list without pages."""
    options: Mapping[str, Any] = {} if filters is None else {"params": {"limit": PAGE_SIZE, **drop_none(filters)}}
    while path:
        rows, path = yield Request(
            "GET", path, lambda response: (response.json()[list_key], _next_page_path(response)), options
        )
        for row in rows:
            yield Yield(parse(row))
        options = {}


def _next_page_path(response: httpx.Response) -> str:
    """Return path and query of the next page, without its host: the key is sent to no other server.

    Without the path of a reverse proxy either: the URL of the server has it.
    """
    link = urllib.parse.urlsplit(response.links.get("next", {}).get("url", ""))
    return f"{API_PATH}{link.path.rpartition(API_PATH)[2]}?{link.query}" if link.path else ""


def _parse_job(response: httpx.Response) -> responses.Job:
    return responses.Job.from_json(response.json())


def _parse_dict(response: httpx.Response) -> dict[str, Any]:
    return dict(response.json())


def _parse_result(response: httpx.Response) -> responses.Result:
    return responses.Result.from_json(response.json())


def _parse_key(response: httpx.Response) -> responses.Key:
    return responses.Key.from_json(response.json())


def _parse_version(response: httpx.Response) -> responses.ModelVersion:
    return responses.ModelVersion.from_json(response.json())


def _model_path(name: str, action: str) -> str:
    return "/".join(("/v1/models", _quote_segment(name), action))


def _selection_path(action: str) -> str:
    return f"/v1/selections/{action}"


def _review_path(result_id: str) -> str:
    return f"/v1/results/{_quote_segment(result_id)}/review"


def _job_path(job_id: str, *segments: str) -> str:
    return "/".join(("/v1/jobs", _quote_segment(job_id), *segments))


def _quote_segment(segment: str) -> str:
    return urllib.parse.quote(segment, safe="")


def _to_images(batch: Sequence[image_files.Image | File]) -> Iterator[image_files.Image]:
    yield from (entry for entry in batch if isinstance(entry, image_files.Image))
    yield from image_files.from_files(entry for entry in batch if not isinstance(entry, image_files.Image))


def _multipart_body(
    batch: Sequence[image_files.Image], custom_ids: Mapping[str, str], fields: Mapping[str, str] | None = None
) -> multipart.Multipart:
    ids = {image.name: custom_ids[image.name] for image in batch if image.name in custom_ids}
    form_fields = {**(fields or {}), **({"custom_ids": json.dumps(ids)} if ids else {})}
    return multipart.Multipart([(image.name, image.read()) for image in batch], form_fields)
