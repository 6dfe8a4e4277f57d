"""Asynchronous client (asyncio, trio), with the methods of `Client`, whose docstrings it gets at the end."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import anyio
import anyio.to_thread

from sortbelt.client import (
    async_transport,
    base_client,
    dataframes,
    image_files,
    listing,
    operations,
    responses,
    sync_client,
)
from sortbelt.client import filters as filter_types

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AsyncJob(responses.Job):
    """`Job` for event loops."""

    client: AsyncClient = field(repr=False, compare=False, kw_only=True)

    async def refresh(self) -> AsyncJob:
        return await self.client.job(self.id)

    async def wait(self, timeout: float | None = None) -> AsyncJob:  # noqa: ASYNC109 - same parameters as `Job`
        return await self.client.wait(self.id, timeout)

    def results(self, **filters: Unpack[filter_types.ResultListFilters]) -> AsyncResults:
        return self.client.results(self.id, **filters)

    async def cancel(self) -> AsyncJob:
        return await self.client.cancel(self.id)

    async def retry(self) -> AsyncJob:
        return await self.client.retry(self.id)

    def deliveries(self) -> AsyncIterator[responses.WebhookDelivery]:
        return self.client.deliveries(self.id)

    def _repr_html_(self) -> str:
        return dataframes.job_html(self)


class AsyncResults:
    """`Results` for event loops."""

    def __init__(self, fetch: Callable[[], AsyncIterator[responses.Result]], description: str) -> None:
        self._fetch = fetch
        self._description = description

    def __aiter__(self) -> AsyncIterator[responses.Result]:
        return self._fetch()

    def __repr__(self) -> str:
        return f"<{self._description}>"

    async def to_pandas(self) -> Any:
        return dataframes.to_pandas([result async for result in self])

    async def to_arrow(self) -> Any:
        return dataframes.to_arrow([result async for result in self])


class AsyncClient(base_client.BaseClient[async_transport.AsyncTransport]):
    """`Client` for event loops; its arguments are the same."""

    _transport_class = async_transport.AsyncTransport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    async def submit(
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
    ) -> AsyncJob:
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
        return self._bind_job(await self._run(operation))

    async def open_job(
        self,
        *,
        name: str | None = None,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        request = operations.open_job(
            idempotency_key,
            job_name=name,
            model=model,
            priority=priority,
            metadata=metadata,
            expires_in=expires_in,
            webhook=webhook,
        )
        return self._bind_job(await self._request(request))

    async def known_blobs(self, digests: Sequence[str]) -> set[str]:
        return await self._request(operations.known_blobs(digests))

    async def add_images(
        self,
        job_id: str,
        batch: Sequence[image_files.Image | operations.File],
        custom_ids: Mapping[str, str] | None = None,
    ) -> AsyncJob:
        return self._bind_job(await self._run(operations.add_images(job_id, batch, custom_ids)))

    async def add_known(
        self, job_id: str, named: Sequence[tuple[str, str]], custom_ids: Mapping[str, str] | None = None
    ) -> AsyncJob:
        return self._bind_job(await self._request(operations.add_known(job_id, named, custom_ids)))

    async def sources(self) -> list[responses.Source]:
        return await self._request(operations.sources())

    async def scan(
        self,
        job_id: str,
        source: str,
        prefix: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        *,
        seal: bool = True,
    ) -> AsyncJob:
        return self._bind_job(await self._request(operations.scan(job_id, source, prefix, include, exclude, seal=seal)))

    async def seal(self, job_id: str) -> AsyncJob:
        return self._bind_job(await self._request(operations.change_job_state(job_id, "seal")))

    async def cancel(self, job_id: str) -> AsyncJob:
        return self._bind_job(await self._request(operations.change_job_state(job_id, "cancel")))

    async def retry(self, job_id: str) -> AsyncJob:
        return self._bind_job(await self._request(operations.change_job_state(job_id, "retry")))

    async def rename(self, job_id: str, name: str | None) -> AsyncJob:
        return self._bind_job(await self._request(operations.rename(job_id, name)))

    async def delete_job(self, job_id: str) -> responses.PurgeRecord:
        return await self._request(operations.delete_job(job_id))

    async def delete_image(self, image_id: str) -> dict[str, Any]:
        return await self._request(operations.delete_image(image_id))

    async def job(self, job_id: str) -> AsyncJob:
        return self._bind_job(await self._request(operations.job(job_id)))

    async def watch(self, job_id: str) -> AsyncIterator[AsyncJob]:
        async for job in self._iterate(operations.watch(job_id)):
            yield self._bind_job(job)

    async def wait(
        self,
        job_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - same parameters as `Client`
        watch: Callable[[responses.Job], None] | None = None,
    ) -> AsyncJob:
        return self._bind_job(await self._run(operations.wait_for(job_id, timeout, watch)))

    async def jobs(self, **filters: Unpack[filter_types.JobFilters]) -> AsyncIterator[AsyncJob]:
        async for job in self._iterate(operations.jobs(filters)):
            yield self._bind_job(job)

    def results(self, job_id: str | None = None, **filters: Unpack[filter_types.ResultListFilters]) -> AsyncResults:
        if job_id is None:
            return self.search(**filters)
        return AsyncResults(lambda: self._iterate(operations.results(job_id, filters)), f"Results of job {job_id}")

    def search(self, **filters: Unpack[filter_types.ResultListFilters]) -> AsyncResults:
        return AsyncResults(lambda: self._iterate(operations.results(None, filters)), "Results")

    def diff(self, job_a: str, job_b: str) -> AsyncIterator[responses.JobDifference]:
        return self._iterate(operations.diff(job_a, job_b))

    async def label_pairs(self, job_a: str, job_b: str) -> dict[str, Any]:
        return await self._request(operations.label_pairs(job_a, job_b))

    async def stats(
        self,
        group: filter_types.Group = "label",
        by: filter_types.Group | None = None,
        **filters: Unpack[filter_types.ResultFilters],
    ) -> listing.Stats:
        return await self._request(operations.stats(group, by, filters))

    async def verify(self, result_id: str) -> AsyncJob:
        return self._bind_job(await self._request(operations.verify(result_id)))

    async def review(
        self, result_id: str, label: str | None = None, verdict: str = "label", note: str | None = None
    ) -> responses.Result:
        return await self._request(operations.review(result_id, label, verdict, note))

    async def withdraw_review(self, result_id: str) -> responses.Result:
        return await self._request(operations.withdraw_review(result_id))

    async def review_images(
        self, image_ids: Iterable[str], label: str | None = None, verdict: str = "label", note: str | None = None
    ) -> dict[str, Any]:
        return await self._run(operations.review_images(image_ids, label, verdict, note))

    async def resubmit_images(
        self,
        image_ids: Iterable[str],
        *,
        name: str | None = None,
        model: str | None = None,
        fresh: bool = False,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        request = operations.resubmit_images(image_ids, idempotency_key, job_name=name, model=model, fresh=fresh)
        return self._bind_job(await self._request(request))

    async def delete_images(self, image_ids: Iterable[str]) -> dict[str, Any]:
        return await self._run(operations.delete_images(image_ids))

    def reviews(self, **filters: Unpack[filter_types.ReviewFilters]) -> AsyncIterator[responses.Review]:
        return self._iterate(operations.reviews(filters))

    async def review_queue(
        self, strategy: str = "least_confident", model: str | None = None, limit: int = 20
    ) -> list[responses.Result]:
        return await self._request(operations.review_queue(strategy, model, limit))

    async def review_stats(self, **filters: str | None) -> list[dict[str, Any]]:
        return await self._request(operations.review_stats(filters))

    async def image_bytes(self, image_id: str) -> bytes:
        return await self._request(operations.image_bytes(image_id))

    def deliveries(
        self, job_id: str | None = None, status: str | None = None
    ) -> AsyncIterator[responses.WebhookDelivery]:
        return self._iterate(operations.deliveries(job_id, status))

    def purges(self) -> AsyncIterator[responses.PurgeRecord]:
        return self._iterate(operations.purges())

    async def replay(self, delivery_id: str) -> responses.WebhookDelivery:
        return await self._request(operations.replay(delivery_id))

    async def webhook_secret(self) -> str:
        return await self._request(operations.webhook_secret())

    async def rotate_webhook_secret(self) -> str:
        return await self._request(operations.rotate_webhook_secret())

    def keys(self) -> AsyncIterator[responses.Key]:
        return self._iterate(operations.keys())

    async def create_key(self, name: str, role: str = "submit", **limits: float | None) -> responses.Key:
        return await self._request(operations.create_key(name, role, limits))

    async def change_key(self, key_id: str, **changes: str | float | None) -> responses.Key:
        return await self._request(operations.change_key(key_id, changes))

    async def revoke_key(self, key_id: str) -> responses.Key:
        return await self._request(operations.revoke_key(key_id))

    def models(self) -> AsyncIterator[responses.ModelVersion]:
        return self._iterate(operations.list_models())

    async def add_model(self, bundle: str | os.PathLike[str]) -> responses.ModelVersion:
        return await self._run(operations.add_model(bundle))

    async def promote_model(self, name: str, version: str, *, force: bool = False) -> responses.ModelVersion:
        return await self._request(operations.promote_model(name, version, force=force))

    async def rollback_model(self, name: str) -> responses.ModelVersion:
        return await self._request(operations.rollback_model(name))

    async def shadow_model(self, name: str, version: str, share: float) -> responses.ModelVersion:
        return await self._request(operations.shadow_model(name, version, share))

    async def compare_models(self, a: str, b: str, limit: int = operations.PAGE_SIZE) -> responses.ModelComparison:
        return await self._run(operations.compare_models(a, b, limit))

    def _bind_job(self, job: responses.Job) -> AsyncJob:
        return AsyncJob(**{name: getattr(job, name) for name in responses.Job.__slots__}, client=self)

    async def _request(self, request: operations.Request[T]) -> T:
        response = await self._transport.request(request.method, request.path, **request.options)
        return self._transport.parse(response, request.parse)

    async def _step(self, step: Any) -> Any:
        if isinstance(step, operations.Request):
            return await self._request(step)
        return await (anyio.sleep(step) if isinstance(step, float) else anyio.to_thread.run_sync(step))

    async def _run(self, operation: operations.Operation[T]) -> T:
        outcome = None
        while True:
            try:
                step = operation.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the generator returns is a T
            try:
                outcome = await self._step(step)
            except BaseException as error:
                operation.throw(error)  # which notes what it has done so far
                raise

    async def _iterate(self, operation: operations.Operation[None]) -> AsyncIterator[Any]:
        step = next(operation, None)
        while step is not None:
            outcome = None
            if isinstance(step, operations.Yield):
                yield step.value
            else:
                outcome = await self._step(step)
            try:
                step = operation.send(outcome)
            except StopIteration:
                return


for _kind, _documented in (
    (AsyncClient, sync_client.Client),
    (AsyncJob, sync_client.Job),
    (AsyncResults, sync_client.Results),
):
    for _name, _method in inspect.getmembers(_kind, inspect.isfunction):
        if not _name.startswith("_"):
            _method.__doc__ = getattr(_documented, _name).__doc__
