"""Synchronous client: jobs, results, keys and models of one Sortbelt server."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from sortbelt.client import base_client, dataframes, image_files, listing, operations, responses, transport
from sortbelt.client import filters as filter_types

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(responses.Job):
    """State of a job, with methods that act on it."""

    client: Client = field(repr=False, compare=False, kw_only=True)

    def refresh(self) -> Job:
        """Get its current state."""
        return self.client.job(self.id)

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended.

        Raises:
            errors.WaitTimeout: it has not ended after `timeout` seconds.
        """
        return self.client.wait(self.id, timeout)

    def results(self, **filters: Unpack[filter_types.ResultListFilters]) -> Results:
        """Return its results; filters as in `Client.search`."""
        return self.client.results(self.id, **filters)

    def cancel(self) -> Job:
        """Cancel it; existing results stay."""
        return self.client.cancel(self.id)

    def retry(self) -> Job:
        """Classify again its images without a label (failed, cancelled, expired); return the new job."""
        return self.client.retry(self.id)

    def deliveries(self) -> Iterator[responses.WebhookDelivery]:
        """Yield the deliveries of its webhook."""
        return self.client.deliveries(self.id)

    def _repr_html_(self) -> str:
        return dataframes.job_html(self)


class Results(listing.Listing["responses.Result"]):
    """Results, requested page by page at each iteration."""

    def __init__(self, fetch: Callable[[int | None], Iterator[responses.Result]], description: str) -> None:
        super().__init__(fetch, description, dataframes.preview_row)

    def to_pandas(self) -> Any:
        """Return all results as a `pandas.DataFrame`; needs pandas."""
        return dataframes.to_pandas(self)

    def to_arrow(self) -> Any:
        """Return all results as a `pyarrow.Table`; needs pyarrow."""
        return dataframes.to_arrow(self)

    def _repr_html_(self) -> str:
        preview = list(itertools.islice(self._fetch(listing.PREVIEW_ROWS), listing.PREVIEW_ROWS))
        return dataframes.results_html(preview, f"{self._description}: the first {len(preview)}")


class Client(base_client.BaseClient[transport.Transport]):
    """Client of a Sortbelt server. Thread-safe.

    Args:
        url: by default `SORTBELT_URL`, else that of `sortbelt up` on this machine.
        key: by default `SORTBELT_KEY`, else the admin key of `sortbelt up`.
        timeout: seconds that one response may take.
        retry_policy: for how long requests are retried.
        notice: called with one sentence when a request waits or is retried.

    Raises:
        errors.BadInput: there is no key, or the URL is malformed.
        errors.Unreachable: there is no URL.
    """

    _transport_class = transport.Transport

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def submit(
        self,
        files: operations.Files,
        *,
        name: str | None = None,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        webhook: str | None = None,
        custom_ids: Mapping[str, str] | None = None,
        wait: bool = False,
    ) -> Job:
        """Create a job of one image or of many: `submit("lunch.jpg")`.

        Args:
            files: a path, a folder, bytes, an open file, a PIL image, (name, bytes), or several of these. Many images
                are sent in several requests, as one job.
            name: name of the job, for people.
            model: the model to use, else the server's default.
            priority: `interactive` or `bulk`.
            metadata: JSON object to store with the job.
            expires_in: seconds after which images that are still queued expire.
            webhook: URL that gets a webhook when the job has ended; see `sortbelt.webhooks.verify`.
            custom_ids: your own identifiers for images, by name; results include them.
            wait: whether to return only when the job has ended.

        Raises:
            errors.BadInput: a path is not a file, a name occurs twice, or there are no files.
            errors.ApiError: the server rejects the job.
        """
        operation = operations.submit(
            files,
            custom_ids,
            wait=wait,
            job_name=name,
            model=model,
            priority=priority,
            metadata=metadata,
            expires_in=expires_in,
            webhook=webhook,
        )
        return self._bind_job(self._run(operation))

    def open_job(
        self,
        *,
        name: str | None = None,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Create a job without images, which accepts images until it is sealed; the same key returns the same job."""
        request = operations.open_job(
            idempotency_key,
            job_name=name,
            model=model,
            priority=priority,
            metadata=metadata,
            expires_in=expires_in,
            webhook=webhook,
        )
        return self._bind_job(self._request(request))

    def known_blobs(self, digests: Sequence[str]) -> set[str]:
        """Return those of the SHA-256 digests (hexadecimal, at most 1,000) whose bytes the server has from this key."""
        return self._request(operations.known_blobs(digests))

    def add_images(
        self,
        job_id: str,
        batch: Sequence[image_files.Image | operations.File],
        custom_ids: Mapping[str, str] | None = None,
    ) -> Job:
        """Add images to an open job in one request: paths, or (name, bytes). Names already in the job are ignored.

        `custom_ids` are your own identifiers, by name.
        """
        return self._bind_job(self._run(operations.add_images(job_id, batch, custom_ids)))

    def add_known(
        self, job_id: str, named: Sequence[tuple[str, str]], custom_ids: Mapping[str, str] | None = None
    ) -> Job:
        """Add images whose bytes the server has already to an open job, as (name, SHA-256).

        `custom_ids` are your own identifiers, by name.

        Raises:
            errors.InvalidRequest: some bytes are missing, and no image was added; `errors` lists the missing ones.
        """
        return self._bind_job(self._request(operations.add_known(job_id, named, custom_ids)))

    def sources(self) -> list[responses.Source]:
        """List the sources whose images the server reads itself; see `scan`."""
        return self._request(operations.sources())

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
        """Let the server fill an open job from a source; the job's `scan` has the progress.

        Args:
            job_id: the job.
            source: name of a source, or an `s3://` address in one.
            prefix: folder in the source; by default all of it.
            include: globs of files to take, whatever their suffix.
            exclude: globs of files and folders to skip.
            seal: whether to seal the job when everything was found.

        Raises:
            errors.InvalidRequest: there is no such source.
            errors.Conflict: the job is sealed, or is filled from another source.
        """
        return self._bind_job(self._request(operations.scan(job_id, source, prefix, include, exclude, seal=seal)))

    def seal(self, job_id: str) -> Job:
        """Seal an open job: it accepts no more images."""
        return self._bind_job(self._request(operations.change_job_state(job_id, "seal")))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; existing results stay."""
        return self._bind_job(self._request(operations.change_job_state(job_id, "cancel")))

    def retry(self, job_id: str) -> Job:
        """Classify again the images of a job without a label (failed, cancelled, expired); return the new job."""
        return self._bind_job(self._request(operations.change_job_state(job_id, "retry")))

    def rename(self, job_id: str, name: str | None) -> Job:
        """Change the name of a job; None removes it."""
        return self._bind_job(self._request(operations.rename(job_id, name)))

    def delete_job(self, job_id: str) -> responses.PurgeRecord:
        """Delete a job with its images and results, which cannot be undone; return the receipt."""
        return self._request(operations.delete_job(job_id))

    def delete_image(self, image_id: str) -> dict[str, Any]:
        """Delete an image with its result, which cannot be undone; return the receipt."""
        return self._request(operations.delete_image(image_id))

    def job(self, job_id: str) -> Job:
        """Get a job."""
        return self._bind_job(self._request(operations.job(job_id)))

    def watch(self, job_id: str) -> Iterator[Job]:
        """Poll a job and yield each state, at last the final one; quickly at first, then at the server's interval."""
        return map(self._bind_job, self._iterate(operations.watch(job_id)))

    def wait(
        self, job_id: str, timeout: float | None = None, watch: Callable[[responses.Job], None] | None = None
    ) -> Job:
        """Wait until a job has ended; `watch` is called with each state.

        Raises:
            errors.WaitTimeout: it has not ended after `timeout` seconds.
        """
        return self._bind_job(self._run(operations.wait_for(job_id, timeout, watch)))

    def jobs(self, **filters: Unpack[filter_types.JobFilters]) -> listing.Listing[Job]:
        """Return the jobs that the key may see, newest first.

        Args:
            filters: `status`, `name` (text in it), `model`, `owner` (name or id of a key), `since` and `until`
                (RFC 3339, or such as `24h` and `yesterday`, by creation).
        """
        return listing.Listing(
            lambda limit: map(self._bind_job, self._iterate(operations.jobs({"limit": limit, **filters}))),
            "Jobs",
            dataframes.job_line,
        )

    def results(self, job_id: str | None = None, **filters: Unpack[filter_types.ResultListFilters]) -> Results:
        """Return the results of a job so far, or without one of all jobs; filters as in `search`."""
        if job_id is None:
            return self.search(**filters)
        return Results(
            lambda limit: self._iterate(operations.results(job_id, {"limit": limit, **filters})),
            f"Results of job {job_id}",
        )

    def search(self, **filters: Unpack[filter_types.ResultListFilters]) -> Results:
        """Search the results of all jobs that the key may see.

        Args:
            filters: `job`, `label`, `min_confidence`, `max_confidence`, `min_familiarity`, `max_familiarity`,
                `status`, `error` (a code), `model` (NAME or NAME@VERSION), `version`, `owner` (name or id of a key),
                `since`, `until` (RFC 3339, or such as `24h` and `yesterday`), `name` (text in the image's name),
                `custom_id`, `reviewed` (whether it has a review), `limit` (rows per request, not in all), `order`
                (`newest`; `confidence`: the least confident first; `familiarity`: the least familiar first).
        """
        return Results(lambda limit: self._iterate(operations.results(None, {"limit": limit, **filters})), "Results")

    def export(
        self, accept: str, job_id: str | None = None, **filters: Unpack[filter_types.ResultListFilters]
    ) -> Iterator[bytes]:
        """Stream results in a format of the server, chunk by chunk.

        Args:
            accept: media type, such as `text/csv`.
            job_id: the job, else all jobs that the key may see.
            filters: as in `search`; `limit` is the maximum number of results.

        Raises:
            errors.BadInput: the server does not support the media type.
        """
        path, params = operations.results_location(job_id, filters)
        if job_id and "job" in params:
            self.job(job_id)  # raises NotFound; a search for an unknown job is merely empty
        return self._transport.stream("GET", path, accept, params=params)

    def diff(self, job_a: str, job_b: str) -> Iterator[responses.JobDifference]:
        """Yield the images whose labels differ between two jobs, or that only one of them has, by name."""
        return self._iterate(operations.diff(job_a, job_b))

    def label_pairs(self, job_a: str, job_b: str) -> dict[str, Any]:
        """Count the images of two jobs by their labels: `compared`, `agreeing`, and `pairs` of `a`, `b`, `count`."""
        return self._request(operations.label_pairs(job_a, job_b))

    def stats(
        self,
        group: filter_types.Group = "label",
        by: filter_types.Group | None = None,
        **filters: Unpack[filter_types.ResultFilters],
    ) -> listing.Stats:
        """Count results by group: `key`, `count`, mean `confidence` and mean `familiarity` of each.

        Args:
            group: `label`, `status`, `error`, `model`, `day`, `hour`, or `confidence` or `familiarity`, whose groups
                are ranges of a tenth, named by their lower ends.
            by: a second property, which divides each group, and is the `by` of each row.
            filters: as in `search`.
        """
        return self._request(operations.stats(group, by, filters))

    def verify(self, result_id: str) -> Job:
        """Create a job that classifies the image of a result again, alone and without cached results.

        Its `metadata` has `verifies` (the result's id) and the previous `label` and `confidence`.
        """
        return self._bind_job(self._request(operations.verify(result_id)))

    def review(
        self, result_id: str, label: str | None = None, verdict: str = "label", note: str | None = None
    ) -> responses.Result:
        """Review a result; the last review counts. Needs the role review, or a result of one's own.

        Args:
            result_id: the result.
            label: the label that it should have, if the verdict is `label`.
            verdict: `label`, `none_of_these` or `bad_image`.
            note: a remark.

        Raises:
            errors.InvalidRequest: the model has no such label.
        """
        return self._request(operations.review(result_id, label, verdict, note))

    def withdraw_review(self, result_id: str) -> responses.Result:
        """Withdraw the review of a result."""
        return self._request(operations.withdraw_review(result_id))

    def review_images(
        self, image_ids: Iterable[str], label: str | None = None, verdict: str = "label", note: str | None = None
    ) -> dict[str, Any]:
        """Give images the same review, as `review`; return the number `reviewed`, and those that `failed` with reasons.

        The `id` of a result is the id of its image: `[result.id for result in client.search(label="sushi")]`.
        """
        return self._run(operations.review_images(image_ids, label, verdict, note))

    def resubmit_images(
        self,
        image_ids: Iterable[str],
        *,
        name: str | None = None,
        model: str | None = None,
        fresh: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """Classify at most 1,000 images again, without an upload; return the new job.

        Args:
            image_ids: ids of images that have a result.
            name: name of the new job.
            model: the model to use, else that of the images.
            fresh: whether to classify images again that the model has labelled already.
            idempotency_key: the same key returns the same job.
        """
        return self._bind_job(
            self._request(
                operations.resubmit_images(image_ids, idempotency_key, job_name=name, model=model, fresh=fresh)
            )
        )

    def archive_images(self, image_ids: Iterable[str]) -> Iterator[bytes]:
        """Stream a ZIP file of at most 1,000 images, with a folder per label, chunk by chunk."""
        path, body = operations.archive_location(image_ids)
        return self._transport.stream("POST", path, "application/zip", json=body)

    def delete_images(self, image_ids: Iterable[str]) -> dict[str, Any]:
        """Delete images with their results; return the receipts as `deleted`, and those that `failed` with reasons."""
        return self._run(operations.delete_images(image_ids))

    def reviews(self, **filters: Unpack[filter_types.ReviewFilters]) -> Iterator[responses.Review]:
        """Yield reviews, newest first.

        Args:
            filters: `model`, `version`, `job`, `result` (an id), `verdict`, `label`, `strategy`, `reviewed_by` (id of a
                key), `since`, `until` (RFC 3339), `history` (also those that were replaced or withdrawn).
        """
        return self._iterate(operations.reviews(filters))

    def review_queue(
        self, strategy: str = "least_confident", model: str | None = None, limit: int = 20
    ) -> list[responses.Result]:
        """Lease images to review: for ten minutes no other key gets them.

        Args:
            strategy: `least_confident`, `unfamiliar`, `disagreement` or `random`.
            model: NAME for its live version, or NAME@VERSION.
            limit: maximum number of images, 1 to 100.
        """
        return self._request(operations.review_queue(strategy, model, limit))

    def review_stats(self, **filters: str | None) -> list[dict[str, Any]]:
        """Get accuracy, precision, recall, confusions and calibration of each version, from its reviews.

        Args:
            filters: `model`, `version`, `job`, `reviewed_by`, `since`, `until`.
        """
        return self._request(operations.review_stats(filters))

    def image_bytes(self, image_id: str) -> bytes:
        """Get an image as it was submitted. Needs the role review, or an image of one's own."""
        return self._request(operations.image_bytes(image_id))

    def deliveries(self, job_id: str | None = None, status: str | None = None) -> Iterator[responses.WebhookDelivery]:
        """Yield webhook deliveries, newest first: of one job, or of all that the key may see.

        Args:
            job_id: the job.
            status: `pending`, `delivered`, `failed` or `disabled`.
        """
        return self._iterate(operations.deliveries(job_id, status))

    def purges(self) -> Iterator[responses.PurgeRecord]:
        """Yield records of the purged jobs that the key may see, latest first."""
        return self._iterate(operations.purges())

    def replay(self, delivery_id: str) -> responses.WebhookDelivery:
        """Send a webhook again, now and with the same id."""
        return self._request(operations.replay(delivery_id))

    def webhook_secret(self) -> str:
        """Get the secret that signs the webhooks of your jobs."""
        return self._request(operations.webhook_secret())

    def rotate_webhook_secret(self) -> str:
        """Create a new signing secret; for a day, webhooks are signed with the old one, too."""
        return self._request(operations.rotate_webhook_secret())

    def keys(self) -> Iterator[responses.Key]:
        """Yield all keys; needs the role admin."""
        return self._iterate(operations.keys())

    def create_key(self, name: str, role: str = "submit", **limits: float | None) -> responses.Key:
        """Create a key; only the returned one has its `secret`.

        Args:
            name: name in lists.
            role: `submit`, `read`, `review` or `admin`.
            limits: `expires_in` (seconds), and quotas: `images_per_minute`, `bytes_per_minute`, `open_images`,
                `open_bytes`, `work_seconds_per_minute`. None is the server's setting, 0 means no limit.
        """
        return self._request(operations.create_key(name, role, limits))

    def change_key(self, key_id: str, **changes: str | float | None) -> responses.Key:
        """Change `name`, `expires_in` or quotas of a key, as in `create_key`; others stay as they are."""
        return self._request(operations.change_key(key_id, changes))

    def revoke_key(self, key_id: str) -> responses.Key:
        """Revoke a key: requests with it are rejected from now on."""
        return self._request(operations.revoke_key(key_id))

    def models(self) -> Iterator[responses.ModelVersion]:
        """Yield all versions of all models, the newest of each first."""
        return self._iterate(operations.list_models())

    def add_model(self, bundle: str | os.PathLike[str]) -> responses.ModelVersion:
        """Add a bundle to the registry as a new version; needs the role admin, as do the following methods.

        Raises:
            errors.BadInput: the folder is not a bundle.
            errors.Conflict: the version exists with other content.
        """
        return self._run(operations.add_model(bundle))

    def promote_model(self, name: str, version: str, *, force: bool = False) -> responses.ModelVersion:
        """Make a version the live one."""
        return self._request(operations.promote_model(name, version, force=force))

    def rollback_model(self, name: str) -> responses.ModelVersion:
        """Undo the last promotion; return the version that is live now."""
        return self._request(operations.rollback_model(name))

    def shadow_model(self, name: str, version: str, share: float) -> responses.ModelVersion:
        """Let a version classify a share of the images beside the live one; a share of 0 stops it."""
        return self._request(operations.shadow_model(name, version, share))

    def compare_models(self, a: str, b: str, limit: int = operations.PAGE_SIZE) -> responses.ModelComparison:
        """Compare two versions, each NAME@VERSION, with at most `limit` images on which they disagree."""
        return self._run(operations.compare_models(a, b, limit))

    def _bind_job(self, job: responses.Job) -> Job:
        return Job(**{name: getattr(job, name) for name in responses.Job.__slots__}, client=self)

    def _request(self, request: operations.Request[T]) -> T:
        response = self._transport.request(request.method, request.path, **request.options)
        return self._transport.parse(response, request.parse)

    def _step(self, step: Any) -> Any:
        """Execute a step of an operation."""
        if isinstance(step, operations.Request):
            return self._request(step)
        return time.sleep(step) if isinstance(step, float) else step()

    def _run(self, operation: operations.Operation[T]) -> T:
        outcome = None
        while True:
            try:
                step = operation.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the generator returns is a T
            try:
                outcome = self._step(step)
            except BaseException as error:
                operation.throw(error)  # which notes what it has done so far
                raise

    def _iterate(self, operation: operations.Operation[None]) -> Iterator[Any]:
        step = next(operation, None)
        while step is not None:
            outcome = None
            if isinstance(step, operations.Yield):
                yield step.value
            else:
                outcome = self._step(step)
            try:
                step = operation.send(outcome)
            except StopIteration:
                return
