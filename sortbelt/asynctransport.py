"""The wire for event loops: requests as `transport` makes them, awaited."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx

from sortbelt import errors, transport


class AsyncTransport(transport.Manners):
    """`Transport` for event loops."""

    def __init__(self, url: str, key: str, **manners: Any) -> None:
        super().__init__(url, key, **manners)
        self._http = httpx.AsyncClient(**self.options)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: transport.Body | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        **request: Any,
    ) -> httpx.Response:
        """As `Transport.call`."""
        started = time.monotonic()
        request |= {"headers": transport.all_headers(headers, body)} | ({"content": _Awaited(body)} if body else {})
        for attempt in itertools.count():
            try:
                return await self._once(method, path, request)
            except (errors.Unreachable, errors.ServerFault) as problem:
                pause = self.before_next(problem, attempt, started, repeatable=repeatable)
            await anyio.sleep(pause)
        raise AssertionError  # the loop above has no end

    async def _once(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            return self.accepted(await self._http.request(method, self.url + path, **request))
        except httpx.TransportError as error:
            raise self.silence(error) from None


class _Awaited:
    """A body as event loops take it."""

    def __init__(self, body: transport.Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._body:
            yield piece
