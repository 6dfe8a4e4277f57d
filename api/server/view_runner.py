"""View runner: runs small submissions in one thread, probes in threads of their own, and other views in a pool."""

from typing import Any

from api.http import requests, suspension
from api.server import fair_executor, submission_thread, wsgi_call
from api.server.response import Response
from core.concurrency import blocking_call

PROBE_PATHS = ("/livez", "/readyz")  # each has a thread of its own: no other request delays them
SUBMISSION_PATH = "/v1/jobs"
MAX_SUBMISSION_BYTES = 1_000_000  # of submissions that share a thread: larger ones would delay the others


class ViewRunner:
    """Run the views of a WSGI app."""

    def __init__(self, app: wsgi_call.App, threads: int) -> None:
        self._app = app
        self.threads = fair_executor.FairExecutor(threads, "view")
        self._submissions = submission_thread.SubmissionThread(app)
        self._probe_threads = {path: fair_executor.FairExecutor(1, "probe") for path in PROBE_PATHS}

    async def run(self, environ: dict[str, Any], path: str, sender: str, *, is_cached: bool) -> Response:
        """Return the response to a request; `is_cached` says that its key is in the cache of valid keys."""
        if not (is_cached and _is_small_submission(environ, path)):
            threads = self._probe_threads.get(path, self.threads)
            return _complete(await threads.run(sender, wsgi_call.start, self._app, environ))
        result = await self._submissions.run(sender, environ)
        if isinstance(result, suspension.SuspendedRequest):
            result = await self.threads.run(sender, _run_blocking, result)
        return _complete(result)


def _is_small_submission(environ: dict[str, Any], path: str) -> bool:
    if environ["REQUEST_METHOD"] != "POST" or path != SUBMISSION_PATH:
        return False
    is_json = "json" in environ["CONTENT_TYPE"].partition(";")[0].lower()
    return int(environ["CONTENT_LENGTH"]) <= (requests.LARGE_JSON_BYTES if is_json else MAX_SUBMISSION_BYTES)


def _run_blocking(request: suspension.SuspendedRequest) -> Response | suspension.SuspendedRequest:
    if isinstance(request.future, blocking_call.BlockingCall):
        request.future.run()
    return wsgi_call.advance(request)


def _complete(result: Response | suspension.SuspendedRequest) -> Response:
    assert isinstance(result, Response), "a request was suspended twice"  # noqa: S101 (for the type checker)
    return result
