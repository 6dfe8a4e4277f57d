"""Buffering of request bodies, with limits on size, silence, duration and rate."""

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from api.server import body_budget

IDLE_SECONDS = 20.0  # a client that sends nothing for so long is given up
MAX_REQUEST_SECONDS = 600.0  # the longest upload of one body
RATE_WINDOW_SECONDS = 30.0  # over which the rate of an upload is measured
MIN_BYTES_PER_SECOND = 10_000  # which a slow mobile connection reaches
MAX_DISCARDED_BYTES = 256_000_000  # read from a body over the limit, so that the client reads the response
MAX_DISCARDED_BYTES_UNAUTHENTICATED = 8_000_000
MAX_DRAINED_BYTES = 64_000_000  # read from a body for which there is no memory
DECODED_CHUNK_BYTES = 1_000_000
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientDisconnected(Exception):
    """The client closed the connection before the whole body had arrived."""


class RequestBody:
    """The body of one request, in one buffer: the bytes are held once, whatever pieces they come in."""

    def __init__(self, reservation: body_budget.Reservation | None, max_bytes: int) -> None:
        """Buffer at most `max_bytes`; without a reservation nothing, but read the body all the same."""
        self._reservation = reservation
        self._max_bytes = max_bytes
        self.buffer = io.BytesIO()
        self.length = 0
        """The bytes received, or the declared length if the body was not read."""
        self.is_complete = False

    @property
    def is_buffered(self) -> bool:
        """Whether the whole body has arrived and is not discarded."""
        return self.is_complete and self._reservation is not None and 0 < self.length <= self._max_bytes

    async def read(self, receive: Receive, declared_length: int, *, expects_continue: bool) -> None:
        """Read the body; bytes over the limit are counted and discarded.

        If the client sent `Expect: 100-continue` and the body will be rejected, do not call `receive`: that would make
        the server send `100 Continue`.

        Raises:
            ClientDisconnected: the client closed the connection.
            TimeoutError: it was silent or slow for too long.
            body_budget.BudgetExceeded: there is no memory for the body.
        """
        if expects_continue and (self._reservation is None or declared_length > self._max_bytes):
            self.length = declared_length
            return
        async with asyncio.timeout(MAX_REQUEST_SECONDS) as timer:
            await self._read(receive, timer)
        self.buffer.getvalue()  # shrinks the buffer to its content, which readers then share
        self.buffer.seek(0)

    async def _read(self, receive: Receive, timer: asyncio.Timeout) -> None:
        max_discarded = MAX_DISCARDED_BYTES_UNAUTHENTICATED if self._reservation is None else MAX_DISCARDED_BYTES
        now = asyncio.get_running_loop().time
        previous_length, window_start = 0, now()
        deadline = window_start + MAX_REQUEST_SECONDS
        rescheduled_at = float("-inf")
        while True:
            if now() - rescheduled_at > IDLE_SECONDS / 20:  # not for each of the pieces that come at once
                rescheduled_at = now()
                timer.reschedule(min(rescheduled_at + IDLE_SECONDS, deadline))
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            self._append(message.get("body", b""))
            if not message.get("more_body"):
                self.is_complete = True
                return
            if self.length > max_discarded:
                return
            elapsed = now() - window_start
            if elapsed > RATE_WINDOW_SECONDS:
                if self.length - previous_length < elapsed * MIN_BYTES_PER_SECOND:
                    raise TimeoutError
                previous_length, window_start = self.length, window_start + elapsed

    def _append(self, data: bytes) -> None:
        self.length += len(data)
        if self._reservation is None or self.length > self._max_bytes:
            self.release()
        else:
            self._reservation.reserve(self.length)
            self.buffer.write(data)

    async def decode(self, open_decoder: Callable[[io.BytesIO], Any]) -> None:
        """Replace the body by the decoded one; beyond the limit it is discarded.

        Raises:
            Exception: whatever the decoder raises for a damaged body.
            body_budget.BudgetExceeded: there is no memory for the body.
        """
        encoded, encoded_length = self.buffer, self.length
        self.buffer, self.length = io.BytesIO(), 0
        with encoded:
            decoder = open_decoder(encoded)
            while chunk := await asyncio.to_thread(decoder.read, DECODED_CHUNK_BYTES):
                self.length += len(chunk)
                if self._reservation is None or self.length > self._max_bytes:
                    self.release()
                    return
                self._reservation.reserve(encoded_length + self.length)
                self.buffer.write(chunk)
        self.buffer.getvalue()  # as in `read`
        self.buffer.seek(0)

    def release(self) -> None:
        """Discard the bytes, and give their memory back to the budget."""
        self.buffer = io.BytesIO()
        if self._reservation is not None:
            self._reservation.release()


async def drain(receive: Receive) -> None:
    """Read and discard a body for a while, so that a rejected client reads the response instead of a reset."""
    length = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            while length <= MAX_DRAINED_BYTES:
                message = await receive()
                length += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
