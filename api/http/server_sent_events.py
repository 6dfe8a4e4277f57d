"""Server-sent events that follow a job."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from api.schemas import ids, job_responses
from api.services import job_watcher
from core import json_values

KEEPALIVE_SECONDS = 15.0  # after so long without an event, a comment is sent
MIN_EVENT_INTERVAL_SECONDS = 0.25
END_EVENT_ID = "end"


@dataclass(frozen=True)
class EventStream:
    """A response that sends an event whenever a job has progressed, until it has ended."""

    job_id: str
    key_id: str
    base_url: str
    show_full_url: bool
    """Whether the webhook's full URL is shown."""
    last_event_id: str
    """The id of the last event that the caller has received; empty for none."""

    async def events(self, watcher: job_watcher.JobWatcher) -> AsyncGenerator[bytes]:
        """Yield each event as text, and a comment when there has been none for a while."""
        rows = watcher.changes(self.job_id, self.key_id)
        next_row = asyncio.ensure_future(anext(rows, None))
        try:
            yield b"retry: 2000\n\n"
            while True:
                done, _ = await asyncio.wait([next_row], timeout=KEEPALIVE_SECONDS)
                if not done:
                    yield b": still here\n\n"
                    continue
                row = next_row.result()
                if row is None:
                    return
                if row.finished_at is not None or self._has_progressed(row):
                    yield self._encode_event(row, watcher)
                if row.finished_at is not None:
                    return
                await asyncio.sleep(MIN_EVENT_INTERVAL_SECONDS)
                next_row = asyncio.ensure_future(anext(rows, None))
        finally:
            next_row.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await next_row
            await rows.aclose()

    def _has_progressed(self, row: Any) -> bool:
        event_id = self.last_event_id[: ids.MAX_DIGITS]
        return not event_id.isdecimal() or job_responses.count_finished(row) > int(event_id)

    def _encode_event(self, row: Any, watcher: job_watcher.JobWatcher) -> bytes:
        """Return an event; its id is the number of finished images, which only grows."""
        if row.finished_at is not None:
            event_type, event_id = "done", END_EVENT_ID
        else:
            event_type, event_id = "progress", str(job_responses.count_finished(row))
        eta = job_responses.job_eta(row, watcher.eta_cache.latest)
        job = job_responses.serialize_job(row, self.base_url, eta, show_full_url=self.show_full_url)
        return f"event: {event_type}\nid: {event_id}\ndata: ".encode() + json_values.encode_json(job) + b"\n"
