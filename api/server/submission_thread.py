"""Submission thread: runs the views of small submissions one after the other, and finishes them when they are written.

Such a view only computes, so that more threads would only compete for the interpreter. A request is a single hand-over
to this thread and back, and requests that are finished at about the same time go back together.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from api.http import suspension
from api.server import wsgi_call
from api.server.response import Response
from core.concurrency import blocking_call, turn_queue

MAX_DELIVERY = 8  # responses that go back together
Outcome = Response | suspension.SuspendedRequest | BaseException
Result = Response | suspension.SuspendedRequest
Delivery = tuple["asyncio.Future[Result]", Outcome]


class SubmissionThread:
    """A thread whose senders take turns; requests that can be finished come first."""

    def __init__(self, app: wsgi_call.App) -> None:
        self._app = app
        self._changed = threading.Condition()
        self._ready: deque[tuple[suspension.SuspendedRequest, asyncio.Future[Result]]] = deque()
        self._waiting: turn_queue.TurnQueue[tuple[dict[str, Any], asyncio.Future[Result]]] = turn_queue.TurnQueue()
        self._thread: threading.Thread | None = None

    async def run(self, sender: str, environ: dict[str, Any]) -> Result:
        """Return the response to a request; or the request, if it must be finished by a call that may block."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.put(sender, (environ, result))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="submission", daemon=True)
                self._thread.start()
            self._changed.notify()
        return await result

    def _run(self) -> None:
        finished: list[Delivery] = []
        while True:
            run, result = self._next(finished)
            outcome = _outcome(run)
            if isinstance(outcome, suspension.SuspendedRequest) and not _may_block(outcome):
                self._await_future(outcome, result)
            else:
                finished.append((result, outcome))
            del run, outcome  # they hold the request

    def _next(self, finished: list[Delivery]) -> tuple[Callable[[], Outcome], "asyncio.Future[Result]"]:
        """Return the next call and the future of its result; before that, deliver what would otherwise wait for it."""
        with self._changed:
            has_more = bool(self._ready or self._waiting)
        if finished and (not has_more or len(finished) >= MAX_DELIVERY):
            _deliver(finished)
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._waiting)
            if self._ready:
                request, result = self._ready.popleft()
                return lambda: wsgi_call.advance(request), result
            taken = self._waiting.take()
            assert taken is not None  # noqa: S101 (for the type checker: something waits)
            environ, result = taken[1]
            return lambda: wsgi_call.start(self._app, environ, suspends=True), result

    def _await_future(self, request: suspension.SuspendedRequest, result: "asyncio.Future[Result]") -> None:
        def on_done(_future: object) -> None:
            with self._changed:
                self._ready.append((request, result))
                self._changed.notify()

        request.future.add_done_callback(on_done)


def _may_block(request: suspension.SuspendedRequest) -> bool:
    return isinstance(request.future, blocking_call.BlockingCall)


def _outcome(run: Callable[[], Outcome]) -> Outcome:
    try:
        return run()
    except BaseException as error:  # noqa: BLE001 (it is raised in the coroutine of the request)
        return error


def _deliver(finished: list[Delivery]) -> None:
    deliveries = finished.copy()
    finished.clear()
    with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
        deliveries[0][0].get_loop().call_soon_threadsafe(_set_results, deliveries)


def _set_results(deliveries: list[Delivery]) -> None:
    for result, outcome in deliveries:
        if result.done():  # cancelled: the client is gone
            continue
        if isinstance(outcome, BaseException):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)
