import asyncio
import io
import threading

import pytest

from api.http import requests
from api.server import view_runner, wsgi_environ

JSON = b"application/json"


def thread_of(content_type, length):
    """Return the name of the thread that runs the view of a submission."""
    names = []

    def app(_environ, start_response):
        names.append(threading.current_thread().name)
        start_response("202 ACCEPTED", [("Content-Length", "0")])
        return []

    scope = {"method": "POST", "path": "/v1/jobs", "query_string": b"", "http_version": "1.1"}
    environ = wsgi_environ.build_environ(scope | {"headers": [(b"content-type", content_type)]}, io.BytesIO(), length)
    asyncio.run(view_runner.ViewRunner(app, 2).run(environ, "/v1/jobs", "key", is_cached=True))
    return names[0].partition("_")[0]


@pytest.mark.parametrize("content_type", [JSON, b"Application/X+JSON; charset=utf-8"])
def test_large_json_does_not_run_in_the_submission_thread(content_type):
    """It may have to wait for other large JSON, and all small submissions would wait with it."""
    assert thread_of(content_type, requests.LARGE_JSON_BYTES) == "submission"
    assert thread_of(content_type, requests.LARGE_JSON_BYTES + 1) == "view"


@pytest.mark.parametrize("content_type", [b"image/jpeg", b"multipart/form-data; boundary=json", b""])
def test_images_of_up_to_a_megabyte_run_in_the_submission_thread(content_type):
    """They wait for nothing."""
    assert thread_of(content_type, view_runner.MAX_SUBMISSION_BYTES) == "submission"
    assert thread_of(content_type, view_runner.MAX_SUBMISSION_BYTES + 1) == "view"
