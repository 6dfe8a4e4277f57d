"""HTTP transport for event loops: the requests of `transport`, awaited."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx

from sortbelt import errors
from sortbelt.client import transport


class AsyncTransport(transport.BaseTransport):
    """`Transport` for event loops."""

    def __init__(self, url: str, key: str, **options: Any) -> None:
        super().__init__(url, key, **options)
        self._http = httpx.AsyncClient(**self.httpx_options)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: transport.RequestBody | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        **options: Any,
    ) -> httpx.Response:
        """See `Transport.request`."""
        started_at = time.monotonic()
        options |= {"headers": transport.merge_headers(headers, body)} | ({"content": _AsyncBody(body)} if body else {})
        for attempt in itertools.count():
            try:
                return await self._send_once(method, path, options)
            except (errors.Unreachable, errors.ServerError) as problem:
                delay = self.retry_delay(problem, attempt, started_at, repeatable=repeatable)
            await anyio.sleep(delay)
        raise AssertionError  # the loop above has no end

    async def _send_once(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        try:
            return self.raise_for_status(await self._http.request(method, self.url + path, **options))
        except httpx.TransportError as error:
            raise self.no_response_error(error) from None


class _AsyncBody:
    """Request body as an asynchronous iterable."""

    def __init__(self, body: transport.RequestBody) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._body:
            yield chunk
