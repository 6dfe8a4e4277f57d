"""The Python client: jobs, results and keys of one Sortbelt server, as typed calls."""

import json
import os
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from sortbelt import errors, multipart, pictures, records, transport, where

PAGE = 1000  # the most results that one request gets
LEAST_POLL_SECONDS = 0.1
POLL_SHARE = 0.1  # of the time that a job has taken so far: who asks so often learns of its end little too late


class Client:
    """A Sortbelt server, as one holder of a key sees it. It may be shared between threads.

    Args:
        url: of the server; else `SORTBELT_URL`, else what `sortbelt up` started on this machine.
        key: else `SORTBELT_KEY`, else the one that `sortbelt up` made.
        timeout: seconds that one answer may take.
        patience: for how long requests are tried again.
        notice: is told, in one sentence, when a request is tried again.

    Raises:
        errors.BadInput: no key is known, or the address is malformed.
        errors.Unreachable: no server is known.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        patience: transport.Patience | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        place = where.find(url, key)
        self._wire = transport.Transport(
            place.url, place.key, timeout=timeout, patience=patience or transport.Patience(), notice=notice
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._wire.url!r})"

    def close(self) -> None:
        """Let go of the connections."""
        self._wire.close()

    def submit(
        self,
        files: Iterable[str | os.PathLike[str] | tuple[str, bytes]],
        *,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        wait: bool = False,
    ) -> records.Job:
        """A new job of these pictures: paths, or (name, bytes).

        Args:
            files: at least one. Too many for one request travel in several; the job is one.
            model: the model to use, else the server's default.
            priority: `interactive` or `bulk`.
            metadata: whatever you want to find again in the job.
            wait: whether to return only when every picture has its result.

        Raises:
            errors.BadInput: a path is no file, a name occurs twice, or there are no files.
            errors.Refused: the server does not take it.
        """
        batches = list(pictures.batches(pictures.named(files)))
        if not batches:
            raise errors.BadInput("Name at least one picture.", "no_images")
        choices = _given(model=model, priority=priority)
        if len(batches) == 1:
            fields = choices | ({"metadata": json.dumps(metadata)} if metadata else {})
            job = self._create(body=_body(batches[0], fields))
        else:
            job = self.open_job(model=model, priority=priority, metadata=metadata)
            for batch in batches:
                self.add_images(job.id, batch)
            job = self.seal(job.id)
        return self.wait(job.id) if wait else job

    def open_job(
        self, *, model: str | None = None, priority: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> records.Job:
        """A new job without pictures, which takes more until it is sealed."""
        choices = _given(model=model, priority=priority, metadata=metadata)
        return self._create(json={"open": True, **choices})

    def add_images(self, job_id: str, batch: Sequence[pictures.Picture]) -> records.Job:
        """The job with more pictures in it; names that it has already are left alone."""
        return self._job("POST", f"/v1/jobs/{_part(job_id)}/images", body=_body(batch))

    def seal(self, job_id: str) -> records.Job:
        """The job, which takes no more pictures from now on."""
        return self._job("POST", f"/v1/jobs/{_part(job_id)}/seal")

    def cancel(self, job_id: str) -> records.Job:
        """The job, of which nothing more is classified; results that exist stay."""
        return self._job("POST", f"/v1/jobs/{_part(job_id)}/cancel")

    def job(self, job_id: str) -> records.Job:
        """The job as it is now."""
        return self._job("GET", f"/v1/jobs/{_part(job_id)}")

    def watch(self, job_id: str) -> Iterator[records.Job]:
        """The job, again and again, the last time when it has ended: quickly at first, then at the server's pace."""
        started = time.monotonic()
        while True:
            answer = self._wire.call("GET", f"/v1/jobs/{_part(job_id)}")
            job = records.Job.read(answer.json())
            yield job
            if job.ended:
                return
            asked = transport.retry_after(answer) or 1.0
            patience = (time.monotonic() - started) * POLL_SHARE
            time.sleep(max(LEAST_POLL_SECONDS, min(asked, patience)))

    def wait(
        self, job_id: str, timeout: float | None = None, watch: Callable[[records.Job], None] | None = None
    ) -> records.Job:
        """The job, when it has ended; until then `watch` is shown what it looks like.

        Raises:
            errors.StillRunning: it had not, after `timeout` seconds.
        """
        started = time.monotonic()
        for job in self.watch(job_id):
            if watch:
                watch(job)
            if job.ended:
                return job
            if timeout is not None and time.monotonic() - started >= timeout:
                raise errors.StillRunning(f"Job {job_id} has not ended after {timeout:g} s.")
        raise AssertionError  # watch ends with a job that has ended

    def jobs(self, *, status: str | None = None) -> Iterator[records.Job]:
        """Your jobs, newest first."""
        return map(records.Job.read, self._pages("/v1/jobs", "jobs", _given(status=status)))

    def results(self, job_id: str) -> Iterator[records.Result]:
        """The results of a job so far, in the order in which they came."""
        return map(records.Result.read, self._pages(f"/v1/jobs/{_part(job_id)}/results", "results", {}))

    def search(self, **filters: str | float | None) -> Iterator[records.Result]:
        """The results that pass every filter, of all jobs that the key may see.

        Args:
            filters: `job`, `label`, `min_confidence`, `max_confidence`, `status`, `error` (a code), `model`,
                `since`, `until` (RFC 3339), `name` (a text in the image's name).
        """
        return map(records.Result.read, self._pages("/v1/results", "results", _given(**filters)))

    def keys(self) -> Iterator[records.Key]:
        """All keys; needs the role admin."""
        return map(records.Key.read, self._pages("/v1/keys", "keys", {}))

    def create_key(self, name: str, role: str = "submit") -> records.Key:
        """A new key, whose `secret` is told only this once; `role` is submit, read or admin."""
        answer = self._wire.call("POST", "/v1/keys", json={"name": name, "role": role}, repeatable=False)
        return records.Key.read(answer.json())

    def revoke_key(self, key_id: str) -> records.Key:
        """The key, which opens nothing from now on."""
        return records.Key.read(self._wire.call("DELETE", f"/v1/keys/{_part(key_id)}").json())

    def _create(self, **request: Any) -> records.Job:
        # The key makes a repeated request harmless: the server answers with the job that it made the first time.
        return self._job("POST", "/v1/jobs", headers={"Idempotency-Key": str(uuid.uuid4())}, **request)

    def _job(self, method: str, path: str, **request: Any) -> records.Job:
        return records.Job.read(self._wire.call(method, path, **request).json())

    def _pages(self, path: str, noun: str, filters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        params: Mapping[str, Any] | None = {**filters, "limit": PAGE}
        while path:
            answer = self._wire.call("GET", path, params=params)
            yield from answer.json()[noun]
            following = urllib.parse.urlsplit(answer.links.get("next", {}).get("url", ""))
            # Only the way is taken from the link, never the host: the key goes to no other server.
            path, params = (f"{following.path}?{following.query}" if following.path else ""), None


def _given(**choices: Any) -> dict[str, Any]:
    return {name: value for name, value in choices.items() if value is not None}


def _part(identity: str) -> str:
    return urllib.parse.quote(identity, safe="")


def _body(batch: Sequence[pictures.Picture], fields: Mapping[str, str] | None = None) -> multipart.Multipart:
    return multipart.Multipart([(picture.name, picture.read()) for picture in batch], fields)
