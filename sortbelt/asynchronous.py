"""The Python client for event loops (asyncio, trio): each call is that of `Client`, to be awaited."""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread

from sortbelt import asynctransport, calls, frames, pictures, records, transport, where

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AsyncJob(records.Job):
    """`Job` for event loops."""

    client: "AsyncClient" = field(repr=False, compare=False, kw_only=True)

    async def refresh(self) -> "AsyncJob":
        """As `Job.refresh`."""
        return await self.client.job(self.id)

    async def wait(self, timeout: float | None = None) -> "AsyncJob":  # noqa: ASYNC109 - as that of `Job`
        """As `Job.wait`."""
        return await self.client.wait(self.id, timeout)

    def results(self, **filters: str | float | None) -> "AsyncResults":
        """As `Job.results`."""
        return self.client.results(self.id, **filters)

    async def cancel(self) -> "AsyncJob":
        """As `Job.cancel`."""
        return await self.client.cancel(self.id)

    async def retry(self) -> "AsyncJob":
        """As `Job.retry`."""
        return await self.client.retry(self.id)

    def deliveries(self) -> AsyncIterator[records.Delivery]:
        """As `Job.deliveries`."""
        return self.client.deliveries(self.id)

    def _repr_html_(self) -> str:
        return frames.of_job(self)


class AsyncResults:
    """`Results` for event loops."""

    def __init__(self, fetch: Callable[[], AsyncIterator[records.Result]], what: str) -> None:
        self._fetch = fetch
        self._what = what

    def __aiter__(self) -> AsyncIterator[records.Result]:
        return self._fetch()

    def __repr__(self) -> str:
        return f"<{self._what}>"

    async def to_pandas(self) -> Any:
        """As `Results.to_pandas`."""
        return frames.pandas([result async for result in self])

    async def to_arrow(self) -> Any:
        """As `Results.to_arrow`."""
        return frames.arrow([result async for result in self])


class AsyncClient:
    """`Client` for event loops; its arguments are the same."""

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
        self._wire = asynctransport.AsyncTransport(
            self.place.url, self.place.key, timeout=timeout, patience=patience or transport.Patience(), notice=notice
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place.url!r})"

    async def close(self) -> None:
        """As `Client.close`."""
        await self._wire.close()

    def notify(self, notice: Callable[[str], None] | None) -> None:
        """As `Client.notify`."""
        self._wire.notice = notice

    async def submit(
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
    ) -> AsyncJob:
        """As `Client.submit`."""
        choices = {"model": model, "priority": priority, "metadata": metadata, "expires_in": expires_in}
        choices = calls.given({**choices, "webhook": webhook})
        return self._job(await self._run(calls.submit(files, choices, custom_ids, wait=wait)))

    async def open_job(
        self,
        *,
        model: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """As `Client.open_job`."""
        choices = {"model": model, "priority": priority, "metadata": metadata, "expires_in": expires_in}
        choices["webhook"] = webhook
        return self._job(await self._call(calls.open_job(idempotency_key, **choices)))

    async def known_blobs(self, digests: Sequence[str]) -> set[str]:
        """As `Client.known_blobs`."""
        return await self._call(calls.known_blobs(digests))

    async def add_images(
        self,
        job_id: str,
        batch: Sequence[pictures.Picture | calls.File],
        custom_ids: Mapping[str, str] | None = None,
    ) -> AsyncJob:
        """As `Client.add_images`."""
        return self._job(await self._run(calls.add_images(job_id, batch, custom_ids)))

    async def add_known(
        self, job_id: str, named: Sequence[tuple[str, str]], custom_ids: Mapping[str, str] | None = None
    ) -> AsyncJob:
        """As `Client.add_known`."""
        return self._job(await self._call(calls.add_known(job_id, named, custom_ids)))

    async def sources(self) -> list[records.Source]:
        """As `Client.sources`."""
        return await self._call(calls.sources())

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
        """As `Client.scan`."""
        return self._job(await self._call(calls.scan(job_id, source, prefix, include, exclude, seal=seal)))

    async def seal(self, job_id: str) -> AsyncJob:
        """As `Client.seal`."""
        return self._job(await self._call(calls.steer(job_id, "seal")))

    async def cancel(self, job_id: str) -> AsyncJob:
        """As `Client.cancel`."""
        return self._job(await self._call(calls.steer(job_id, "cancel")))

    async def retry(self, job_id: str) -> AsyncJob:
        """As `Client.retry`."""
        return self._job(await self._call(calls.steer(job_id, "retry")))

    async def job(self, job_id: str) -> AsyncJob:
        """As `Client.job`."""
        return self._job(await self._call(calls.job(job_id)))

    async def watch(self, job_id: str) -> AsyncIterator[AsyncJob]:
        """As `Client.watch`."""
        async for job in self._items(calls.watch(job_id)):
            yield self._job(job)

    async def wait(
        self,
        job_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as that of `Client`
        watch: Callable[[records.Job], None] | None = None,
    ) -> AsyncJob:
        """As `Client.wait`."""
        return self._job(await self._run(calls.wait_for(job_id, timeout, watch)))

    async def jobs(self, **filters: str | None) -> AsyncIterator[AsyncJob]:
        """As `Client.jobs`."""
        async for job in self._items(calls.jobs(filters)):
            yield self._job(job)

    def results(self, job_id: str, **filters: str | float | None) -> AsyncResults:
        """As `Client.results`."""
        return AsyncResults(lambda: self._items(calls.results(job_id, filters)), f"Results of job {job_id}")

    def search(self, **filters: str | float | None) -> AsyncResults:
        """As `Client.search`."""
        return AsyncResults(lambda: self._items(calls.search(filters)), "Results")

    async def stats(self, group: str, **filters: str | float | None) -> list[dict[str, Any]]:
        """As `Client.stats`."""
        return await self._call(calls.stats(group, filters))

    async def verify(self, result_id: str) -> AsyncJob:
        """As `Client.verify`."""
        return self._job(await self._call(calls.verify(result_id)))

    def deliveries(self, job_id: str | None = None, status: str | None = None) -> AsyncIterator[records.Delivery]:
        """As `Client.deliveries`."""
        return self._items(calls.deliveries(job_id, status))

    def purges(self) -> AsyncIterator[records.Receipt]:
        """As `Client.purges`."""
        return self._items(calls.purges())

    async def replay(self, delivery_id: str) -> records.Delivery:
        """As `Client.replay`."""
        return await self._call(calls.replay(delivery_id))

    async def webhook_secret(self) -> str:
        """As `Client.webhook_secret`."""
        return await self._call(calls.webhook_secret())

    async def rotate_webhook_secret(self) -> str:
        """As `Client.rotate_webhook_secret`."""
        return await self._call(calls.rotate_webhook_secret())

    def keys(self) -> AsyncIterator[records.Key]:
        """As `Client.keys`."""
        return self._items(calls.keys())

    async def create_key(self, name: str, role: str = "submit", **limits: float | None) -> records.Key:
        """As `Client.create_key`."""
        return await self._call(calls.create_key(name, role, limits))

    async def change_key(self, key_id: str, **changes: str | float | None) -> records.Key:
        """As `Client.change_key`."""
        return await self._call(calls.change_key(key_id, changes))

    async def revoke_key(self, key_id: str) -> records.Key:
        """As `Client.revoke_key`."""
        return await self._call(calls.revoke_key(key_id))

    def models(self) -> AsyncIterator[records.Version]:
        """As `Client.models`."""
        return self._items(calls.models())

    async def add_model(self, bundle: str | os.PathLike[str]) -> records.Version:
        """As `Client.add_model`."""
        return await self._run(calls.add_model(bundle))

    async def promote_model(self, name: str, version: str) -> records.Version:
        """As `Client.promote_model`."""
        return await self._call(calls.promote_model(name, version))

    async def rollback_model(self, name: str) -> records.Version:
        """As `Client.rollback_model`."""
        return await self._call(calls.rollback_model(name))

    async def shadow_model(self, name: str, version: str, share: float) -> records.Version:
        """As `Client.shadow_model`."""
        return await self._call(calls.shadow_model(name, version, share))

    async def compare_models(self, a: str, b: str, limit: int = calls.PAGE) -> records.Comparison:
        """As `Client.compare_models`."""
        return await self._run(calls.compare_models(a, b, limit))

    def _job(self, job: records.Job) -> AsyncJob:
        return AsyncJob(**{name: getattr(job, name) for name in records.Job.__slots__}, client=self)

    async def _call(self, call: calls.Call[T]) -> T:
        return call.read(await self._wire.call(call.method, call.path, **call.options))

    async def _step(self, step: Any) -> Any:
        if isinstance(step, calls.Call):
            return await self._call(step)
        return await (anyio.sleep(step) if isinstance(step, float) else anyio.to_thread.run_sync(step))

    async def _run(self, steps: calls.Steps[T]) -> T:
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the generator returns is a T
            answer = await self._step(step)

    async def _items(self, steps: calls.Steps[None]) -> AsyncIterator[Any]:
        step = next(steps, None)
        while step is not None:
            answer = None
            if isinstance(step, calls.Item):
                yield step.value
            else:
                answer = await self._step(step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return
