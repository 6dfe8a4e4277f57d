"""Sending of deferred responses: long polls and event streams."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping

from api.http import long_poll, problems, server_sent_events
from api.server.request_body import Message
from api.server.response import Response, problem_response
from api.services import job_watcher
from core import errors, json_values

WRITE_TIMEOUT_SECONDS = 30.0  # within which a client must read a part of a response
# Headers of the view's response that do not hold for the one that replaces it.
REPLACED_HEADERS = {b"content-length", b"content-type", b"etag", b"retry-after"}
Send = Callable[[Message], Awaitable[None]]
log = logging.getLogger(__name__)


async def send_long_poll(
    scope: Message,
    response: Response,
    deferred: long_poll.LongPoll,
    watcher: job_watcher.JobWatcher,
    send: Send,
) -> None:
    """Send the response after the wait: a problem if the job was deleted.

    If the wait fails, a 202 for a submission, and else a problem.
    """
    try:
        with _counted(watcher.waits, deferred.key_id):
            update = await deferred.wait(watcher)
        if update is not None:
            response = _replaced_response(response, *update)
    except errors.JobPurged as error:
        response = _gone_response(response, error)
    except Exception as error:
        log.exception("a long poll of job %s failed", deferred.job_id)
        if deferred.submitted is None:
            response = _failure_response(scope, error)
        else:
            response = _replaced_response(response, *deferred.accepted(watcher))
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": b"".join(response.chunks)})


async def send_events(
    response: Response, stream: server_sent_events.EventStream, watcher: job_watcher.JobWatcher, send: Send
) -> None:
    """Send events; a stream that fails ends like a complete one, and its client reconnects with the last id."""
    headers = [(name, value) for name, value in response.headers if name != b"content-length"]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    try:
        with _counted(watcher.streams, stream.key_id):
            async with contextlib.aclosing(stream.events(watcher)) as events:
                async for event in events:
                    async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                        await send({"type": "http.response.body", "body": event, "more_body": True})
    except TimeoutError:
        log.warning("an event stream ended: its client read nothing for %g s", WRITE_TIMEOUT_SECONDS)
    except errors.JobPurged:
        log.debug("an event stream ended: its job was deleted")  # its client reconnects, and gets a 410
    except Exception:
        log.exception("the event stream of job %s failed", stream.job_id)
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def _counted(counter: Counter[str], key_id: str) -> Iterator[None]:
    """Count a response of this key while it is being sent."""
    counter[key_id] += 1
    try:
        yield
    finally:
        counter[key_id] -= 1
        if not counter[key_id]:
            del counter[key_id]


def _replaced_response(response: Response, status: int, headers: Mapping[str, str], body: bytes) -> Response:
    kept_headers = [(name, value) for name, value in response.headers if name not in REPLACED_HEADERS]
    new_headers = [
        (name.encode(), value.encode()) for name, value in {**headers, "content-length": str(len(body))}.items()
    ]
    return Response(status, [*kept_headers, *new_headers], iter([body]), is_buffered=True)


def _gone_response(response: Response, error: errors.JobPurged) -> Response:
    """Return the problem that a view returns for a job that was deleted."""
    request_id = dict(response.headers).get(b"x-request-id", b"").decode("latin-1")
    body = problems.problem_body(410, error.code, error.detail, request_id)
    headers = {"content-type": "application/problem+json"}
    return _replaced_response(response, 410, headers, json_values.encode_json(body))


def _failure_response(scope: Message, error: Exception) -> Response:
    if isinstance(error, errors.ServiceUnavailable):
        return problem_response(scope, 503, error.code, problems.unavailable_detail(error))
    return problem_response(scope, 500, "internal_error", problems.INTERNAL_ERROR_DETAIL)
