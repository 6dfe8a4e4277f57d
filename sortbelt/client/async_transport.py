"""HTTP transport for event loops: the requests of `transport`, awaited."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx

from sortbelt import errors
from sortbelt.client import multipart, transport


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
        body: multipart.Multipart | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        **options: Any,
    ) -> httpx.Response:
        """See `Transport.request`."""
        started_at = time.monotonic()
        options |= {"headers": transport.merge_headers(headers, body)} | ({"content": _AsyncBody(body)} if body else {})
        for attempt in itertools.count():
            try:
                return self.raise_for_status(await self._http.request(method, self.url + path, **options))
            except httpx.TransportError as error:
                problem: errors.SortbeltError = self.no_response_error(error)
            except (errors.Unreachable, errors.ServerError) as error:
                problem = error
            delay = self.retry_delay(problem, attempt, started_at, repeatable=repeatable)
            del problem  # it refers to this frame, and so to the body, which would be kept
            await anyio.sleep(delay)
        raise AssertionError  # the loop above has no end


class _AsyncBody:
    """Request body as an asynchronous iterable."""

    def __init__(self, body: multipart.Multipart) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._body:
            yield chunk
