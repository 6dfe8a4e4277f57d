"""The Python client: jobs, results, keys and models of one Sortbelt server, as typed calls."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from sortbelt import calls, frames, pictures, records, transport, where

T = TypeVar("T")
SHOWN = 10  # results that a notebook shows


@dataclass(frozen=True, slots=True)
class Job(records.Job):
    """A job as the server last told it, and what can be done with it."""

    client: "Client" = field(repr=False, compare=False, kw_only=True)

    def refresh(self) -> "Job":
        """The job as it is now."""
        return self.client.job(self.id)

    def wait(self, timeout: float | None = None) -> "Job":
        """The job when it has ended.

        Raises:
            errors.StillRunning: it had not, after `timeout` seconds.
        """
        return self.client.wait(self.id, timeout)

    def results(self, **filters: str | float | None) -> "Results":
        """Its results; filters as in `Client.search`."""
        return self.client.results(self.id, **filters)

    def cancel(self) -> "Job":
        """The job, of which nothing more is classified."""
        return self.client.cancel(self.id)

    def retry(self) -> "Job":
        """The job that holds what failed, to be tried again."""
        return self.client.retry(self.id)

    def deliveries(self) -> Iterator[records.Delivery]:
        """What has become of its webhook."""
        return self.client.deliveries(self.id)

    def _repr_html_(self) -> str:
        return frames.of_job(self)


class Results:
    """Results that are asked for page by page when they are looked at, anew each time."""

    def __init__(self, fetch: Callable[[int | None], Iterator[records.Result]], what: str) -> None:
        self._fetch = fetch
        self._what = what

    def __iter__(self) -> Iterator[records.Result]:
        return self._fetch(None)

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def to_pandas(self) -> Any:
        """All of them as a `pandas.DataFrame`, if pandas is installed."""
        return frames.pandas(self)

    def to_arrow(self) -> Any:
        """All of them as a `pyarrow.Table`, if pyarrow is installed."""
        return frames.arrow(self)

    def _repr_html_(self) -> str:
        some = list(zip(range(SHOWN), self._fetch(SHOWN), strict=False))
        return frames.of_results((result for _, result in some), f"{self._what}: the first {len(some)}")


class Client:
    """A Sortbelt server, as one holder of a key sees it. It may be shared between threads.

    Args:
        url: of the server; else `SORTBELT_URL`, else what `sortbelt up` started on this machine.
        key: else `SORTBELT_KEY`, else the one that `sortbelt up` made.
        timeout: seconds that one answer may take.
        patience: for how long requests are tried again.
        notice: is told, in one sentence, when a request has to wait or is tried again.

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
        self.place = where.find(url, key)
        self._wire = transport.Transport(
            self.place.url, self.place.key, timeout=timeout, patience=patience or transport.Patience(), notice=notice
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place.url!r})"

    def close(self) -> None:
        """Let go of the connections."""
        self._wire.close()

    def notify(self, notice: Callable[[str], None] | None) -> None:
        """Tell somebody else, from now on, when a request has to wait or is tried again."""
        self._wire.notice = notice

    def submit(
        self,
        files: Iterable[calls.File],
        *,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        webhook: str | None = None,
        custom_ids: Mapping[str, str] | None = None,
        wait: bool = False,
    ) -> Job:
        """A new job of these pictures: paths, or (name, bytes).

        Args:
            files: at least one. Too many for one request travel in several; the job is one.
            model: the model to use, else the server's default.
            priority: `interactive` or `bulk`.
            metadata: whatever you want to find again in the job.
            expires_in: seconds after which what no worker has taken yet is not classified any more.
            webhook: the URL that is told when the job has ended; `sortbelt.webhooks.verify` reads what it is sent.
            custom_ids: identifiers of your own for pictures, by their names; results have them.
            wait: whether to return only when every picture has its result.

        Raises:
            errors.BadInput: a path is no file, a name occurs twice, or there are no files.
            errors.Refused: the server does not take it.
        """
        choices = {"model": model, "priority": priority, "metadata": metadata, "expires_in": expires_in}
        choices = calls.given({**choices, "webhook": webhook})
        return self._job(self._run(calls.submit(files, choices, custom_ids, wait=wait)))

    def open_job(
        self,
        *,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job without pictures, which takes more until it is sealed; the same key gives the same job."""
        choices = {"model": model, "priority": priority, "metadata": metadata, "expires_in": expires_in}
        choices["webhook"] = webhook
        return self._job(self._call(calls.open_job(idempotency_key, **choices)))

    def known_blobs(self, digests: Sequence[str]) -> set[str]:
        """Those of these SHA-256 digests (hexadecimal, at most 1,000) whose bytes the server has from you already."""
        return self._call(calls.known_blobs(digests))

    def add_images(
        self,
        job_id: str,
        batch: Sequence[pictures.Picture | calls.File],
        custom_ids: Mapping[str, str] | None = None,
    ) -> Job:
        """The open job with more pictures: paths, or (name, bytes), for one request; known names are left alone.

        `custom_ids` are identifiers of your own for some of them, by their names.
        """
        return self._job(self._run(calls.add_images(job_id, batch, custom_ids)))

    def add_known(
        self, job_id: str, named: Sequence[tuple[str, str]], custom_ids: Mapping[str, str] | None = None
    ) -> Job:
        """The job with more pictures in it, whose bytes the server has already: (name, SHA-256) of each.

        `custom_ids` are as in `add_images`.

        Raises:
            errors.Invalid: it has not; `errors` of the exception names those that it lacks, and none was added.
        """
        return self._job(self._call(calls.add_known(job_id, named, custom_ids)))

    def sources(self) -> list[records.Source]:
        """The places of the server whose pictures need not be sent: `scan` has them classified where they lie."""
        return self._call(calls.sources())

    def scan(
        self,
        job_id: str,
        source: str,
        prefix: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        *,
        seal: bool = True,
    ) -> Job:
        """The open job, which the server fills from now on by itself; its `scan` tells how far that is.

        Args:
            job_id: the job.
            source: the name of one of the `sources`, or the `s3://` address of something in one.
            prefix: a folder in it; without one, all of it.
            include: globs: files like these are taken, whatever their suffix.
            exclude: globs: files and folders like these are left alone.
            seal: whether the job is sealed when everything was found.

        Raises:
            errors.Invalid: there is no such source.
            errors.Conflict: the job is sealed, or filled from another place.
        """
        return self._job(self._call(calls.scan(job_id, source, prefix, include, exclude, seal=seal)))

    def seal(self, job_id: str) -> Job:
        """The job, which takes no more pictures from now on."""
        return self._job(self._call(calls.steer(job_id, "seal")))

    def cancel(self, job_id: str) -> Job:
        """The job, of which nothing more is classified; results that exist stay."""
        return self._job(self._call(calls.steer(job_id, "cancel")))

    def retry(self, job_id: str) -> Job:
        """The job that holds what failed in this one, to be tried again."""
        return self._job(self._call(calls.steer(job_id, "retry")))

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return self._job(self._call(calls.job(job_id)))

    def watch(self, job_id: str) -> Iterator[Job]:
        """The job, again and again, the last time when it has ended: quickly at first, then at the server's pace."""
        return map(self._job, self._items(calls.watch(job_id)))

    def wait(
        self, job_id: str, timeout: float | None = None, watch: Callable[[records.Job], None] | None = None
    ) -> Job:
        """The job, when it has ended; until then `watch` is shown what it looks like.

        Raises:
            errors.StillRunning: it had not, after `timeout` seconds.
        """
        return self._job(self._run(calls.wait_for(job_id, timeout, watch)))

    def jobs(self, **filters: str | None) -> Iterator[Job]:
        """Your jobs, newest first.

        Args:
            filters: `status`, `model`, `owner` (a key's id), `since` and `until` (RFC 3339: when they
                were made).
        """
        return map(self._job, self._items(calls.jobs(filters)))

    def results(self, job_id: str, **filters: str | float | None) -> Results:
        """The results of a job so far; filters as in `search`."""
        return Results(
            lambda limit: self._items(calls.results(job_id, {"limit": limit, **filters})), f"Results of job {job_id}"
        )

    def search(self, **filters: str | float | None) -> Results:
        """The results that pass every filter, of all jobs that the key may see.

        Args:
            filters: `job`, `label`, `min_confidence`, `max_confidence`, `status`, `error` (a code), `model`,
                `owner` (a key's id), `since`, `until` (RFC 3339), `name` (a text in the image's name),
                `custom_id`, `limit` (rows of one request, not of all),
                `order` (`newest`, or `confidence`: the least sure first).
        """
        return Results(lambda limit: self._items(calls.search({"limit": limit, **filters})), "Results")

    def export(self, accept: str, job_id: str | None = None, **filters: str | float | None) -> Iterator[bytes]:
        """Results as one file, piece by piece, in a form that the server makes, such as `text/csv`.

        Raises:
            errors.BadInput: this server does not know the form.
        """
        return self._wire.stream("/v1/results", accept, calls.given({"job": job_id, **filters}))

    def stats(self, group: str, **filters: str | float | None) -> list[dict[str, Any]]:
        """Numbers of results, by group: for each its `key`, `count` and mean `confidence`.

        Args:
            group: `label`, `status`, `error`, `model`, `day` or `hour`.
            filters: as in `search`.
        """
        return self._call(calls.stats(group, filters))

    def verify(self, result_id: str) -> Job:
        """A new job that classifies the picture of this result again, alone and whatever is known of it.

        Its `metadata` has `verifies`, the result's id, and the `label` and `confidence` of then.
        """
        return self._job(self._call(calls.verify(result_id)))

    def deliveries(self, job_id: str | None = None, status: str | None = None) -> Iterator[records.Delivery]:
        """What has become of webhooks, newest first: of one job, or of all that the key may see.

        Args:
            job_id: the job.
            status: `pending`, `delivered`, `failed` or `disabled`.
        """
        return self._items(calls.deliveries(job_id, status))

    def purges(self) -> Iterator[records.Receipt]:
        """Receipts of jobs that were purged, the latest first: of all that the key may see."""
        return self._items(calls.purges())

    def replay(self, delivery_id: str) -> records.Delivery:
        """The delivery, which is sent once more, at once and under the same id."""
        return self._call(calls.replay(delivery_id))

    def webhook_secret(self) -> str:
        """What the webhooks of your jobs are signed with."""
        return self._call(calls.webhook_secret())

    def rotate_webhook_secret(self) -> str:
        """Another secret; for a day webhooks are signed with the one before, too."""
        return self._call(calls.rotate_webhook_secret())

    def keys(self) -> Iterator[records.Key]:
        """All keys; needs the role admin."""
        return self._items(calls.keys())

    def create_key(self, name: str, role: str = "submit", **limits: float | None) -> records.Key:
        """A new key, whose `secret` is told only this once.

        Args:
            name: what it is called in lists.
            role: `submit`, `read` or `admin`.
            limits: `expires_in` (seconds), and quotas: `images_per_minute`, `bytes_per_minute`, `open_images`,
                `open_bytes`. None is what the server's settings say, 0 is no limit.
        """
        return self._call(calls.create_key(name, role, limits))

    def change_key(self, key_id: str, **changes: str | float | None) -> records.Key:
        """The key with another `name`, `expires_in` or quota, as in `create_key`; what is not named stays."""
        return self._call(calls.change_key(key_id, changes))

    def revoke_key(self, key_id: str) -> records.Key:
        """The key, which opens nothing from now on."""
        return self._call(calls.revoke_key(key_id))

    def models(self) -> Iterator[records.Version]:
        """All versions of all models, the newest of each first."""
        return self._items(calls.models())

    def add_model(self, bundle: str | os.PathLike[str]) -> records.Version:
        """A bundle as a new version in the registry, to be promoted; needs the role admin, as all that follows.

        Raises:
            errors.BadInput: the folder is no bundle.
            errors.Conflict: the version is there already, with other content.
        """
        return self._run(calls.add_model(bundle))

    def promote_model(self, name: str, version: str) -> records.Version:
        """The version, which answers from now on."""
        return self._call(calls.promote_model(name, version))

    def rollback_model(self, name: str) -> records.Version:
        """The version that was live before, which is so again."""
        return self._call(calls.rollback_model(name))

    def shadow_model(self, name: str, version: str, share: float) -> records.Version:
        """The version, which judges a share of the pictures beside the live one; a share of 0 ends that."""
        return self._call(calls.shadow_model(name, version, share))

    def compare_models(self, a: str, b: str, limit: int = calls.PAGE) -> records.Comparison:
        """Where two versions, each NAME@VERSION, agree, with at most `limit` of the images on which they do not."""
        return self._run(calls.compare_models(a, b, limit))

    def _job(self, job: records.Job) -> Job:
        return Job(**{name: getattr(job, name) for name in records.Job.__slots__}, client=self)

    def _call(self, call: calls.Call[T]) -> T:
        return call.read(self._wire.call(call.method, call.path, **call.options))

    def _step(self, step: Any) -> Any:
        """Do what a generator of steps asks for."""
        if isinstance(step, calls.Call):
            return self._call(step)
        return time.sleep(step) if isinstance(step, float) else step()

    def _run(self, steps: calls.Steps[T]) -> T:
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the generator returns is a T
            answer = self._step(step)

    def _items(self, steps: calls.Steps[None]) -> Iterator[Any]:
        step = next(steps, None)
        while step is not None:
            answer = None
            if isinstance(step, calls.Item):
                yield step.value
            else:
                answer = self._step(step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return
