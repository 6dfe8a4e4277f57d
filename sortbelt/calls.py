"""What is said to the server, without saying it: each request and how its answer is read, each errand as a generator.

A generator of steps yields a `Call` to be made, a number of seconds to be slept, a function to be run where it holds
up nobody, or an `Item` for the caller; it is sent what came of it, and returns the errand's outcome. `Client` and
`AsyncClient` run the same steps.
"""

import json
import os
import time
import urllib.parse
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from sortbelt import bundles, errors, multipart, pictures, records, transport

PAGE = 500  # rows that one request gets
LEAST_POLL_SECONDS = 0.1
POLL_SHARE = 0.1  # of the time that a job has taken so far: who asks so often learns of its end little too late

T = TypeVar("T")
Steps = Generator[Any, Any, T]
File = str | os.PathLike[str] | tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what reads its answer; `options` are those of `transport.Transport.call`."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Something for whoever asked."""

    value: T


def open_job(idempotency_key: str | None = None, **choices: Any) -> Call[records.Job]:
    """A new job without pictures."""
    return _create(idempotency_key, json={"open": True, **given(choices)})


def add_images(
    job_id: str, batch: Sequence[pictures.Picture | File], custom_ids: Mapping[str, str] | None = None
) -> Steps[records.Job]:
    """More pictures for an open job."""
    body = yield lambda: _body(list(_pictures(batch)), custom_ids or {})
    answer: records.Job = yield Call("POST", _of_job(job_id, "images"), _job, {"body": body})
    return answer


def add_known(
    job_id: str, named: Sequence[tuple[str, str]], custom_ids: Mapping[str, str] | None = None
) -> Call[records.Job]:
    """More pictures for an open job, whose bytes the server has."""
    ids = custom_ids or {}
    images = [given({"name": name, "sha256": digest, "custom_id": ids.get(name)}) for name, digest in named]
    return Call("POST", _of_job(job_id, "images"), _job, {"json": {"images": images}})


def known_blobs(digests: Sequence[str]) -> Call[set[str]]:
    """Those of the digests that the server has."""
    return Call(
        "POST", "/v1/blobs/check", lambda answer: set(answer.json()["known"]), {"json": {"sha256": list(digests)}}
    )


def job(job_id: str) -> Call[records.Job]:
    """A job as it is."""
    return Call("GET", _of_job(job_id), _job)


def steer(job_id: str, verb: str) -> Call[records.Job]:
    """A job after `seal`, `cancel` or `retry`."""
    return Call("POST", _of_job(job_id, verb), _job)


def sources() -> Call[list[records.Source]]:
    """The places from which a job can be filled."""
    return Call("GET", "/v1/sources", lambda answer: list(map(records.Source.read, answer.json()["sources"])))


def scan(
    job_id: str, source: str, prefix: str, include: Sequence[str], exclude: Sequence[str], *, seal: bool
) -> Call[records.Job]:
    """An open job that the server fills."""
    body = {"source": source, "prefix": prefix, "include": list(include), "exclude": list(exclude), "seal": seal}
    return Call("POST", _of_job(job_id, "scan"), _job, {"json": body})


def verify(result_id: str) -> Call[records.Job]:
    """A new job that classifies the picture of a result again, alone."""
    return Call("POST", f"/v1/results/{_part(result_id)}/verify", _job)


def submit(
    files: Iterable[File], choices: Mapping[str, Any], custom_ids: Mapping[str, str] | None = None, *, wait: bool
) -> Steps[records.Job]:
    """A new job of these pictures, in as many requests as they need."""
    batches = yield lambda: list(pictures.batches(pictures.named(files)))
    if not batches:
        raise errors.BadInput("Name at least one picture.", "no_images")
    ids = custom_ids or {}
    if unknown := ids.keys() - {picture.name for batch in batches for picture in batch}:
        raise errors.BadInput(f"custom_ids names {min(unknown)!r}, which is none of the pictures.", "bad_custom_id")
    if len(batches) == 1:
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in choices.items()}
        body = yield lambda: _body(batches[0], ids, fields)
        made = yield _create(body=body)
    else:
        made = yield open_job(**choices)
        for batch in batches:
            yield from add_images(made.id, batch, ids)
        made = yield steer(made.id, "seal")
    return (yield from wait_for(made.id)) if wait else made


def watch(job_id: str) -> Steps[None]:
    """Items: the job, again and again, the last time when it has ended."""
    started = time.monotonic()
    call = Call("GET", _of_job(job_id), lambda answer: (_job(answer), transport.retry_after(answer)))
    while True:
        seen, asked = yield call
        yield Item(seen)
        if seen.ended:
            return
        yield max(LEAST_POLL_SECONDS, min(asked or 1.0, (time.monotonic() - started) * POLL_SHARE))


def wait_for(
    job_id: str, timeout: float | None = None, show: Callable[[records.Job], None] | None = None
) -> Steps[records.Job]:
    """The job when it has ended."""
    started, steps, answer = time.monotonic(), watch(job_id), None
    while True:
        step = steps.send(answer)
        if not isinstance(step, Item):
            answer = yield step
            continue
        answer, seen = None, step.value
        if show:
            show(seen)
        if seen.ended:
            return seen  # type: ignore[no-any-return]  # an item of `watch` is a job
        if timeout is not None and time.monotonic() - started >= timeout:
            raise errors.StillRunning(f"Job {job_id} has not ended after {timeout:g} s.")


def jobs(filters: Mapping[str, Any]) -> Steps[None]:
    """Items: jobs, newest first."""
    return _pages("/v1/jobs", "jobs", filters, records.Job.read)


def results(job_id: str, filters: Mapping[str, Any]) -> Steps[None]:
    """Items: results of one job; what its own list cannot filter is asked of the list of all."""
    if given(filters).keys() <= {"limit"}:
        yield from _pages(_of_job(job_id, "results"), "results", filters, records.Result.read)
        return
    yield job(job_id)  # a job that does not exist shall not look like one without results
    yield from search({"job": job_id, **filters})


def search(filters: Mapping[str, Any]) -> Steps[None]:
    """Items: results of all jobs."""
    return _pages("/v1/results", "results", filters, records.Result.read)


def stats(group: str, filters: Mapping[str, Any]) -> Call[list[dict[str, Any]]]:
    """Numbers of results by group."""
    return Call(
        "GET", "/v1/stats", lambda answer: list(answer.json()["stats"]), {"params": given({"group": group, **filters})}
    )


def deliveries(job_id: str | None, status: str | None) -> Steps[None]:
    """Items: what has become of webhooks, of one job or of all."""
    if job_id is not None:
        yield job(job_id)  # a job that does not exist shall not look like one without webhooks
    filters = {"job": job_id, "status": status}
    yield from _pages("/v1/webhooks/deliveries", "deliveries", filters, records.Delivery.read)


def purges() -> Steps[None]:
    """Items: receipts of what was purged, the latest first."""
    return _pages("/v1/purges", "purges", {}, records.Receipt.read)


def replay(delivery_id: str) -> Call[records.Delivery]:
    """A delivery that is sent once more."""
    path = f"/v1/webhooks/deliveries/{_part(delivery_id)}/replay"
    return Call("POST", path, lambda answer: records.Delivery.read(answer.json()))


def webhook_secret() -> Call[str]:
    """What webhooks are signed with."""
    return Call("GET", "/v1/webhooks/secret", lambda answer: str(answer.json()["secret"]))


def rotate_webhook_secret() -> Call[str]:
    """Another secret."""
    path = "/v1/webhooks/secret/rotate"
    return Call("POST", path, lambda answer: str(answer.json()["secret"]), {"repeatable": False})


def keys() -> Steps[None]:
    """Items: all keys."""
    return _pages("/v1/keys", "keys", None, records.Key.read)


def create_key(name: str, role: str, limits: Mapping[str, float | None]) -> Call[records.Key]:
    """A new key."""
    return Call("POST", "/v1/keys", _key, {"json": {"name": name, "role": role, **limits}, "repeatable": False})


def change_key(key_id: str, changes: Mapping[str, str | float | None]) -> Call[records.Key]:
    """A key that is otherwise from now on."""
    return Call("PATCH", f"/v1/keys/{_part(key_id)}", _key, {"json": dict(changes)})


def revoke_key(key_id: str) -> Call[records.Key]:
    """A key that opens nothing any more."""
    return Call("DELETE", f"/v1/keys/{_part(key_id)}", _key)


def models() -> Steps[None]:
    """Items: all versions of all models."""
    return _pages("/v1/models", "models", None, records.Version.read)


def add_model(bundle: str | os.PathLike[str]) -> Steps[records.Version]:
    """A bundle as a new version."""
    body = yield lambda: multipart.Multipart(bundles.read(bundle), part="files")
    made: records.Version = yield Call("POST", "/v1/models", _version, {"body": body})
    return made


def promote_model(name: str, version: str) -> Call[records.Version]:
    """A version that answers from now on."""
    return Call("POST", _of_model(name, "promote"), _version, {"json": {"version": version}})


def rollback_model(name: str) -> Call[records.Version]:
    """The version that was live before."""
    return Call("POST", _of_model(name, "rollback"), _version, {"repeatable": False})


def shadow_model(name: str, version: str, share: float) -> Call[records.Version]:
    """A version that judges a share of the pictures beside the live one."""
    return Call("POST", _of_model(name, "shadow"), _version, {"json": {"version": version, "share": share}})


def compare_models(a: str, b: str, limit: int) -> Steps[records.Comparison]:
    """Where two versions agree, and the first images on which they do not."""
    path, params = "/v1/models/compare", {"a": a, "b": b, "limit": min(limit, PAGE)}
    raw, path = yield Call("GET", path, lambda answer: (answer.json(), _following(answer)), {"params": params})
    while path and len(raw["disagreements"]) < limit:
        more, path = yield Call("GET", path, lambda answer: (answer.json()["disagreements"], _following(answer)))
        raw["disagreements"] += more
    return records.Comparison.read({**raw, "disagreements": raw["disagreements"][:limit]})


def given(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were chosen."""
    return {name: value for name, value in choices.items() if value is not None}


def _create(idempotency_key: str | None = None, **request: Any) -> Call[records.Job]:
    # The key makes a repeated request harmless: the server answers with the job that it made the first time.
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Call("POST", "/v1/jobs", _job, {"headers": headers, **request})


def _pages(path: str, noun: str, filters: Mapping[str, Any] | None, read: Callable[[Any], Any]) -> Steps[None]:
    """Items: the rows of a list, page by page; `filters` are None where it is always whole."""
    options: Mapping[str, Any] = {} if filters is None else {"params": {"limit": PAGE, **given(filters)}}
    while path:
        rows, path = yield Call("GET", path, lambda answer: (answer.json()[noun], _following(answer)), options)
        for row in rows:
            yield Item(read(row))
        options = {}


def _following(answer: httpx.Response) -> str:
    """The way to the next page, and only the way: whatever host the link names, the key goes to no other server."""
    link = urllib.parse.urlsplit(answer.links.get("next", {}).get("url", ""))
    return f"{link.path}?{link.query}" if link.path else ""


def _job(answer: httpx.Response) -> records.Job:
    return records.Job.read(answer.json())


def _key(answer: httpx.Response) -> records.Key:
    return records.Key.read(answer.json())


def _version(answer: httpx.Response) -> records.Version:
    return records.Version.read(answer.json())


def _of_model(name: str, verb: str) -> str:
    return "/".join(("/v1/models", _part(name), verb))


def _of_job(job_id: str, *parts: str) -> str:
    return "/".join(("/v1/jobs", _part(job_id), *parts))


def _part(identity: str) -> str:
    return urllib.parse.quote(identity, safe="")


def _pictures(batch: Sequence[pictures.Picture | File]) -> Iterator[pictures.Picture]:
    yield from (one for one in batch if isinstance(one, pictures.Picture))
    yield from pictures.named(one for one in batch if not isinstance(one, pictures.Picture))


def _body(
    batch: Sequence[pictures.Picture], custom_ids: Mapping[str, str], fields: Mapping[str, str] | None = None
) -> multipart.Multipart:
    ids = {picture.name: custom_ids[picture.name] for picture in batch if picture.name in custom_ids}
    said = {**(fields or {}), **({"custom_ids": json.dumps(ids)} if ids else {})}
    return multipart.Multipart([(picture.name, picture.read()) for picture in batch], said)
