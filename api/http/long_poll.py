"""Long polling: wait until a job ends or changes (`Prefer: wait`, `?wait=`)."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.schemas import job_requests, job_responses, result_responses
from api.services import job_watcher
from core import json_values

ACCEPTED_HEADERS = {
    "Location": "the URL of the job, to be polled",
    "Retry-After": "seconds after which polling is worthwhile",
    "Preference-Applied": "the preference that was applied",
}
PREFER_HEADER = {
    "Prefer": {
        "description": f"`wait=N`: respond when the job has ended, after at most N seconds (up to "
        f"{job_requests.MAX_WAIT_SECONDS}): with 200, the job and its first 100 results if it has, else with 202, and "
        "the job goes on",
        "examples": ["wait=1"],
    }
}
RESPONSE_DESCRIPTIONS = {
    200: "with `Prefer: wait`, if the job has ended in time: the job, with its first 100 results",
    202: "the accepted job, which may not have ended yet",
}
ResponseParts = tuple[int, dict[str, str], bytes]
"""The status, the headers and the body of a response."""


@dataclass(frozen=True)
class LongPoll:
    """A response that waits until a job has ended, differs from a known ETag, or the timeout is over."""

    job_id: str
    key_id: str
    base_url: str
    timeout: float
    """In seconds."""
    show_full_url: bool
    """Whether the webhook's full URL is shown."""
    known_etag: str | None = None
    """The ETag that the caller knows: any change from it ends the wait."""
    submitted: Any = None
    """The job as it was accepted, if this is a submission: 200 with results when the job has ended, else 202."""
    more_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the response, in addition to those of the job."""

    async def wait(self, watcher: job_watcher.JobWatcher) -> ResponseParts | None:
        """Return the response after the wait; None if that of the view is still true, which a submission's never is.

        Raises:
            errors.DatabaseUnavailable: the job has ended, and its results cannot be read.
        """
        latest = await self._latest_row(watcher)
        if self.submitted is None:
            is_known = latest is None or job_responses.etag(latest) == self.known_etag
            return None if is_known else self._response(200, latest, watcher)
        if latest is None or latest.finished_at is None:
            return self._response(202, latest or self.submitted, watcher)
        results = [result_responses.serialize_result(row) for row in await watcher.results(latest)]
        return self._response(200, latest, watcher, results=results)

    def accepted(self, watcher: job_watcher.JobWatcher) -> ResponseParts:
        """Return the response to a submission as it was accepted."""
        return self._response(202, self.submitted, watcher)

    def _response(self, status: int, row: Any, watcher: job_watcher.JobWatcher, **results: Any) -> ResponseParts:
        eta = job_responses.job_eta(row, watcher.eta_cache.latest)
        headers = {"etag": job_responses.etag(row), "content-type": "application/json"}
        headers |= job_responses.retry_after_header(row, eta)
        job = job_responses.serialize_job(row, self.base_url, eta, show_full_url=self.show_full_url)
        return status, headers, json_values.encode_json({**job, **self.more_fields, **results})

    async def _latest_row(self, watcher: job_watcher.JobWatcher) -> Any:
        latest: Any = None
        rows = watcher.changes(self.job_id, known_row=self.submitted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.timeout), contextlib.aclosing(rows):
                async for row in rows:
                    latest = row
                    if row.finished_at is not None or (self.known_etag and job_responses.etag(row) != self.known_etag):
                        break
        return latest
