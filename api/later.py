"""What a view leaves to the front: to wait for a job before it answers, or to tell of it as it goes on."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import flask

from api import asked, auth, shapes, watch
from api.parts import parts
from jobs.store import jobs

KEY = "sortbelt.later"
TAKEN = {
    "Location": "where to poll the job",
    "Retry-After": "seconds after which polling may be worthwhile",
    "Preference-Applied": "the preference that was heeded",
}
PREFER = {
    "Prefer": {
        "description": f"`wait=N`: answer when the job has ended, in N seconds at most ({asked.MOST_WAIT_SECONDS} at "
        "most), with its first 100 results and status 200 if it has; else with 202, and the job goes on",
        "examples": ["wait=1"],
    }
}
SAYS = {
    200: "with `Prefer: wait`, if the job has ended in time: the job, with its first 100 results",
    202: "the job, which was taken in and may not have ended yet",
}
BEAT_SECONDS = 15.0  # a stream that has nothing to tell says so
LEAST_SECONDS = 0.25  # between two events of a stream
END = "end"


@dataclass(frozen=True)
class Wait:
    """Answer when the job has ended, or differs from what the caller knows, or the time is over."""

    job_id: str
    root: str
    seconds: float
    whole: bool
    """Whether the job's webhook is told in full."""
    with_results: bool = False
    known: str | None = None
    """The ETag of what the caller knows: any change is then worth an answer."""
    row: Any = None
    """The job as the view has seen it."""

    async def answer(self, watched: watch.Watch) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body; None if nothing has come that is better than what there was."""
        latest: Any = None
        rows = watched.rows(self.job_id, known=self.row)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds), contextlib.aclosing(rows):
                async for row in rows:
                    latest = row
                    if row.finished_at is not None or (self.known and shapes.tag(row) != self.known):
                        break
        if latest is None or shapes.tag(latest) == self.known:
            return None
        headers = {"etag": shapes.tag(latest), "content-type": "application/json"}
        body: Any = shapes.job(latest, self.root, watched.outlook.latest, whole=self.whole)
        if latest.finished_at is None:
            return (
                202 if self.with_results else 200,
                headers | shapes.pace(latest, watched.outlook.latest),
                _dumped(body),
            )
        if self.with_results:
            body["results"] = [shapes.result(row) for row in await watched.results(latest)]
        return 200, headers, _dumped(body)


@dataclass(frozen=True)
class Events:
    """Tell of the job as it goes on, until it has ended: server-sent events."""

    job_id: str
    key_id: str
    root: str
    whole: bool
    known: str
    """The id of the last event that the caller has seen."""

    async def events(self, watched: watch.Watch) -> AsyncGenerator[bytes]:
        """Each event as text; a comment where there is nothing to tell."""
        rows = watched.rows(self.job_id, self.key_id)
        coming = asyncio.ensure_future(anext(rows, None))
        try:
            yield b"retry: 2000\n\n"
            while True:
                done, _ = await asyncio.wait([coming], timeout=BEAT_SECONDS)
                if not done:
                    yield b": still here\n\n"
                    continue
                row = coming.result()
                if row is None:
                    return
                if row.finished_at is not None or self._is_news(row):
                    yield _event(row, shapes.job(row, self.root, watched.outlook.latest, whole=self.whole))
                if row.finished_at is not None:
                    return
                await asyncio.sleep(LEAST_SECONDS)
                coming = asyncio.ensure_future(anext(rows, None))
        finally:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await coming
            await rows.aclose()

    def _is_news(self, row: Any) -> bool:
        return not self.known.isdecimal() or shapes.ended(row) > int(self.known)


def leave(what: Wait | Events) -> None:
    """Leave this to the front, which looks at it when the view has answered."""
    flask.request.environ[KEY] = what


def shown(job_id: str, owner: str | None) -> flask.Response:
    """A job as it is now."""
    return _told(parts().db.read(jobs.job, job_id, owner))


def _told(row: Any) -> flask.Response:
    outlook = parts().outlook.now() if row.finished_at is None else None
    whole = auth.caller().learns_addresses
    response = flask.jsonify(shapes.job(row, flask.request.url_root, outlook, whole=whole))
    response.headers.update(shapes.pace(row, outlook))
    response.headers["ETag"] = shapes.tag(row)
    return response


def accepted(row: Any) -> flask.Response:
    """A job that was taken in: 202; or when it has ended, with its results, where the request prefers to wait."""
    response = _told(row)
    response.status_code = 202
    response.headers["Location"] = f"{flask.request.url_root}v1/jobs/{row.id}"
    seconds = asked.preferred_wait()
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds:.0f}"
        root = flask.request.url_root
        leave(Wait(str(row.id), root, seconds, whole=True, with_results=True, row=row))
    return response


def _event(row: Any, job: shapes.Job) -> bytes:
    """An event; its id is how many pictures have ended, which only grows."""
    kind, id_ = ("done", END) if row.finished_at is not None else ("progress", str(shapes.ended(row)))
    return f"event: {kind}\nid: {id_}\ndata: ".encode() + _dumped(job) + b"\n\n"


def _dumped(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
