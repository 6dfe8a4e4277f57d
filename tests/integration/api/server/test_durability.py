"""A 202 leaves the API only when a power failure cannot lose the job any more: its bytes and its rows are on disk."""

import concurrent.futures
import hashlib

import httpx
import pytest

from tests.integration.api.conftest import run_api_server
from tests.support import factories, system_calls

IMAGES = 24
SEND_CALLS = ("write", "writev", "sendto", "sendmsg")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, redis_url, database_template):
    """Submit images one at a time, then eight at a time; return the digest of each by job id, and the system calls."""
    if reason := system_calls.why_unavailable():
        pytest.skip(reason)
    data_dir = tmp_path_factory.mktemp("power")
    trace_file = data_dir / "calls"
    tracer = system_calls.tracer_command(trace_file)
    images = [factories.make_image(number) for number in range(IMAGES)]
    with (
        run_api_server(data_dir, database_template, redis_url, tracer=tracer) as server,
        httpx.Client(
            base_url=f"http://127.0.0.1:{server.port}", headers={"Authorization": f"Bearer {server.key}"}, timeout=60
        ) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        ids = [_submit(client, image) for image in images[:4]]
        ids += pool.map(lambda image: _submit(client, image), images[4:])
    digests = [hashlib.sha256(image).hexdigest() for image in images]
    return dict(zip(ids, digests, strict=True)), system_calls.read_calls(trace_file, server.process.pid)


def test_no_202_leaves_before_the_flush_of_its_bytes(recorded):
    """Each image was written and renamed, and then its file system was flushed, before the response was sent."""
    digest_by_job, calls = recorded
    for job_id, digest in digest_by_job.items():
        sent = _response(calls, job_id)
        renamed = next(call for call in calls if call.name.startswith("rename") and f"/{digest}" in call.text)
        flushes = [call for call in calls if call.name == "syncfs" and call.began > renamed.ended]
        assert flushes, "the bytes were never flushed"
        assert min(flush.ended for flush in flushes) < sent.began, f"job {job_id}: 202 before its bytes were flushed"


def test_no_202_leaves_before_the_flush_of_its_rows(recorded):
    """The rows of each job were written to the log of the database, and then it was flushed, before the response."""
    digest_by_job, calls = recorded
    for job_id in digest_by_job:
        sent = _response(calls, job_id)
        written = next(
            call for call in calls if call.name == "pwrite64" and "-wal>" in call.text and job_id in call.text
        )
        flushes = [
            call
            for call in calls
            if call.name in ("fdatasync", "fsync") and "-wal>" in call.text and call.began > written.ended
        ]
        assert flushes, "the rows were never flushed"
        assert min(flush.ended for flush in flushes) < sent.began, f"job {job_id}: 202 before its rows were flushed"


def _submit(client, image):
    response = client.post("/v1/jobs", content=image, headers={"Content-Type": "image/png"})
    assert response.status_code == 202, response.text
    return response.json()["id"]


def _response(calls, job_id):
    """Return the call that sends the 202 of a job: the first that shows its id to a client."""
    return next(
        call for call in calls if call.name in SEND_CALLS and "HTTP/1.1 202" in call.text and job_id in call.text
    )
