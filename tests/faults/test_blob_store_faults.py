"""Full disks, missing or altered blobs, and buckets that refuse."""

import contextlib
import http.server
import os
import subprocess
import time
from typing import ClassVar

import pytest

from tests.faults.stack import TIMEOUT_FACTOR, make_image
from tests.support import servers


@contextlib.contextmanager
def small_disk(folder, size="1m"):
    """Mount a small file system on a folder."""
    folder.mkdir(parents=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False)
    if mount.returncode:
        pytest.skip(
            "needs root to mount; tests/integration/core/storage/test_blob_stores.py tests a full device instead"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def noise(size):
    """Return an image of at least `size` bytes."""
    return make_image(1) + os.urandom(size)


def test_a_full_blob_disk(stack):
    """Row 20: 503, no partial blob, no job; when there is space again, jobs are accepted."""
    with small_disk(stack.blobs) as disk:
        stack.start_api()
        stack.start_workers(1)
        (disk / "ballast").write_bytes(bytes(600_000))
        with stack.client() as client:
            assert stack.post(client, [("small.png", noise(1000))]).status_code == 202
            for _ in range(3):
                response = stack.post(client, [("one.png", noise(300_000)), ("two.png", noise(300_000))])
                assert response.status_code == 503
                assert response.json()["code"] == "blobs_unavailable"
                assert int(response.headers["Retry-After"]) >= 1
            (disk / "ballast").unlink()
            left = [path.stat().st_size for path in disk.rglob("*") if path.is_file()]
            assert all(size > 300_000 or size < 2000 for size in left)
            assert not list((disk / "tmp").glob("*"))
            assert len(client.get("/v1/jobs").json()["jobs"]) == 1
            assert stack.post(client, [("one.png", noise(100_000))]).status_code == 202
        stack.wait_until_settled(30)


def test_a_full_database_disk(make_stack, tmp_path, request):
    """Row 20: with SQLite; 503, nothing half-written, and jobs are accepted when there is space again."""
    with small_disk(tmp_path / "disk", "900k") as disk:
        (disk / "sortbelt.db").write_bytes(request.getfixturevalue("_sqlite_template").read_bytes())
        stack = make_stack(f"sqlite:///{disk}/sortbelt.db")
        stack.start_api()
        (worker,) = stack.start_workers(1)
        with stack.client() as client:
            statuses = []
            deadline = time.monotonic() + 40 * TIMEOUT_FACTOR
            while 503 not in statuses:
                assert time.monotonic() < deadline
                names = [(f"{len(statuses)}-{n}-{'x' * 800}", make_image(n)) for n in range(20)]
                statuses.append(stack.post(client, names).status_code)
            assert set(statuses) == {202, 503}
            time.sleep(1)
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
            stack.wait_until(
                lambda: stack.post(client, stack.new_files(2)).status_code == 202, 20, "jobs are accepted again"
            )
        stack.wait_until_settled(60)
        assert worker.is_alive
        stack.close()


@pytest.mark.parametrize(("fault", "code"), [("missing", "blob_missing"), ("altered", "blob_corrupt")])
def test_a_missing_or_altered_blob(stack, fault, code):
    """Row 21: its image fails at the first attempt, and is not retried."""
    stack.submit(10, ("bad.png", make_image(1_000_005)))
    blob = stack.blob_path(make_image(1_000_005))
    if fault == "missing":
        blob.unlink()
    else:
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    stack.start_workers(1)
    stack.wait_until_settled(20, expected_errors={"bad.png": code})
    assert set(stack.attempts().values()) == {1}


class Bucket(servers.QuietHandler):
    """Serve one S3 bucket from memory; refuse requests with the status `refuse`."""

    blobs: ClassVar = {}
    refuse = None
    request_count = 0

    def _answer(self, status, body=b""):
        self.answer(status, body, {"ETag": '"x"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).request_count += 1
        if self.refuse == "slow":
            time.sleep(20)
        if isinstance(self.refuse, int):
            return self._answer(self.refuse)
        self.blobs[self.path] = body
        return self._answer(200)

    def do_GET(self):
        type(self).request_count += 1
        if isinstance(self.refuse, int):
            return self._answer(self.refuse)
        body = self.blobs.get(self.path)
        return self._answer(404) if body is None else self._answer(200, body)

    do_HEAD = do_GET


@pytest.fixture
def s3_stack(stack, monkeypatch):
    """Make a stack whose blobs are in a bucket that can refuse."""
    Bucket.blobs, Bucket.refuse, Bucket.request_count = {}, None, 0
    with servers.serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)) as server:
        servers.set_s3_environment(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        stack.settings |= {"blob_store": "s3://pictures/some"}
        yield stack


@pytest.mark.parametrize("refusal", [503, 403])
def test_a_bucket_that_refuses(s3_stack, refusal):
    """Row 22: submissions get a 503; queued images wait without spending an attempt, and are done later."""
    stack = s3_stack
    stack.start_api()
    with stack.client(timeout=40) as client:
        assert stack.post(client, stack.new_files(5)).status_code == 202
        Bucket.refuse = refusal
        started = time.monotonic()
        response = stack.post(client, stack.new_files(1))
        print(f"{refusal} became a 503 after {time.monotonic() - started:.1f} s and {Bucket.request_count} requests")
        assert (response.status_code, response.json()["code"]) == (503, "blobs_unavailable")
        (worker,) = stack.start_workers(1)
        stack.wait_until(lambda: "does not answer" in worker.read_log(), 30, "the worker logs it")
        assert stack.finished_count() == 0
        Bucket.refuse = None
        stack.wait_until_settled(40)
    assert set(stack.attempts().values()) == {1}
    assert worker.is_alive


def test_a_worker_without_progress_ends_itself(s3_stack):
    """It claims and hands back, without progress: its watchdog ends it, and a new worker starts afresh."""
    stack = s3_stack
    stack.start_api()
    with stack.client(timeout=40) as client:
        assert stack.post(client, stack.new_files(5)).status_code == 202
    Bucket.refuse = 403
    worker = stack.start_worker(watchdog_seconds=4)
    started = time.monotonic()
    assert worker.wait_for_exit(60) == 70
    print(f"a worker without progress for 4 s ended itself {time.monotonic() - started:.1f} s after its start")
    assert "no progress" in worker.read_log()
    Bucket.refuse = None
    stack.start_workers(1)
    stack.wait_until_settled(30)
    # Images that it held when it ended itself have used an attempt, as after a kill.
    assert set(stack.attempts().values()) <= {1, 2}


def test_a_bucket_that_has_lost_an_image(s3_stack):
    """Row 21, in a bucket: a lost image fails at once, unlike one during an outage."""
    stack = s3_stack
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, [*stack.new_files(4), ("lost.png", make_image(1_000_003))]).status_code == 202
    import hashlib

    digest = hashlib.sha256(make_image(1_000_003)).hexdigest()
    for path in [path for path in Bucket.blobs if digest in path]:
        del Bucket.blobs[path]
    stack.start_workers(1)
    stack.wait_until_settled(30, expected_errors={"lost.png": "blob_missing"})
