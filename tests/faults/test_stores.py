"""Disks that are full, pictures that are gone or altered, buckets that refuse."""

import contextlib
import http.server
import os
import subprocess
import threading
import time
from typing import ClassVar

import pytest

from tests import servers
from tests.faults.stack import SLACK, picture


@contextlib.contextmanager
def small_disk(folder, size="1m"):
    """A disk of its own for a folder, nearly full; frees it in the middle by `umount`."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk here; tests/jobs/test_blobs.py has a full device instead")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def noise(size):
    """A picture of so many bytes, at least."""
    return picture(1) + os.urandom(size)


def test_a_full_disk_of_pictures(stack):
    """Row 20: 503, no half of a picture, no job; when there is room again, all goes on."""
    with small_disk(stack.blobs) as disk:
        stack.start_api()
        stack.start_workers(1)
        (disk / "ballast").write_bytes(bytes(600_000))
        with stack.client() as client:
            assert stack.post(client, [("small.png", noise(1000))]).status_code == 202
            for _ in range(3):
                answer = stack.post(client, [("one.png", noise(300_000)), ("two.png", noise(300_000))])
                assert answer.status_code == 503
                assert answer.json()["code"] == "blobs_unavailable"
                assert int(answer.headers["Retry-After"]) >= 1
            (disk / "ballast").unlink()
            left = [path.stat().st_size for path in disk.rglob("*") if path.is_file()]
            assert all(size > 300_000 or size < 2000 for size in left)
            assert not list((disk / "halves").glob("*"))
            assert len(client.get("/v1/jobs").json()["jobs"]) == 1
            assert stack.post(client, [("one.png", noise(100_000))]).status_code == 202
        stack.settle(30)


def test_a_full_disk_of_the_database(make_stack, tmp_path, request):
    """Row 20: SQLite's disk; 503, nothing half-written, and all goes on when there is room."""
    with small_disk(tmp_path / "disk", "900k") as disk:
        (disk / "sortbelt.db").write_bytes(request.getfixturevalue("_sqlite_template").read_bytes())
        stack = make_stack(f"sqlite:///{disk}/sortbelt.db")
        stack.start_api()
        (worker,) = stack.start_workers(1)
        with stack.client() as client:
            statuses = []
            deadline = time.monotonic() + 40 * SLACK
            while 503 not in statuses:
                assert time.monotonic() < deadline
                names = [(f"{len(statuses)}-{n}-{'x' * 800}", picture(n)) for n in range(20)]
                statuses.append(stack.post(client, names).status_code)
            assert set(statuses) == {202, 503}
            time.sleep(1)
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
            stack.until(lambda: stack.post(client, stack.files(2)).status_code == 202, 20, "jobs are taken in again")
        stack.settle(60)
        assert worker.alive
        stack.close()


@pytest.mark.parametrize(("how", "code"), [("gone", "blob_missing"), ("altered", "blob_corrupt")])
def test_a_picture_that_is_gone_or_altered(stack, how, code):
    """Row 21: failed with its code at the first attempt, and never tried again."""
    stack.submit(10, ("bad.png", picture(1_000_005)))
    blob = stack.blob(picture(1_000_005))
    if how == "gone":
        blob.unlink()
    else:
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    stack.start_workers(1)
    stack.settle(20, failed={"bad.png": code})
    assert set(stack.attempts().values()) == {1}


class Bucket(http.server.BaseHTTPRequestHandler):
    """A server that speaks as much S3 as one bucket needs, and refuses as it is told."""

    kept: ClassVar = {}
    refuse = None
    asked = 0

    def _answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        if self.refuse == "slow":
            time.sleep(20)
        if isinstance(self.refuse, int):
            return self._answer(self.refuse)
        self.kept[self.path] = body
        return self._answer(200)

    def do_GET(self):
        type(self).asked += 1
        if isinstance(self.refuse, int):
            return self._answer(self.refuse)
        found = self.kept.get(self.path)
        return self._answer(404) if found is None else self._answer(200, found)

    do_HEAD = do_GET  # noqa: N815 (as above)

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def bucket(stack, monkeypatch):
    """A stack whose pictures lie in a bucket that may refuse."""
    Bucket.kept, Bucket.refuse, Bucket.asked = {}, None, 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    servers.point_at_s3(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    stack.settings |= {"blobs": "s3://pictures/some"}
    yield stack
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("refusal", [503, 403])
def test_a_bucket_that_refuses(bucket, refusal):
    """Row 22: 503 for who hands in, no job; queued pictures wait, no attempt is spent; then all is done."""
    stack = bucket
    stack.start_api()
    with stack.client(timeout=40) as client:
        assert stack.post(client, stack.files(5)).status_code == 202
        Bucket.refuse = refusal
        started = time.monotonic()
        answer = stack.post(client, stack.files(1))
        print(f"a bucket's {refusal} was a 503 after {time.monotonic() - started:.1f} s and {Bucket.asked} requests")
        assert (answer.status_code, answer.json()["code"]) == (503, "blobs_unavailable")
        (worker,) = stack.start_workers(1)
        stack.until(lambda: "does not answer" in worker.said(), 30, "the worker says so")
        assert stack.done() == 0
        Bucket.refuse = None
        stack.settle(40)
    assert set(stack.attempts().values()) == {1}
    assert worker.alive


def test_a_worker_that_gets_nothing_done_while_there_is_work(bucket):
    """Its watchdog: it lives, it claims, it hands back, and nothing moves; it ends itself, and another begins anew."""
    stack = bucket
    stack.start_api()
    with stack.client(timeout=40) as client:
        assert stack.post(client, stack.files(5)).status_code == 202
    Bucket.refuse = 403
    worker = stack.start_worker(stuck_seconds=4)
    started = time.monotonic()
    assert worker.ended(60) == 70
    print(f"a worker that got nothing done for 4 s ended itself {time.monotonic() - started:.1f} s after its start")
    assert "no progress" in worker.said()
    Bucket.refuse = None
    stack.start_workers(1)
    stack.settle(30)
    assert set(stack.attempts().values()) == {1}


def test_a_bucket_that_has_lost_a_picture(bucket):
    """Row 21, in a bucket: permanent is told from transient."""
    stack = bucket
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, [*stack.files(4), ("lost.png", picture(1_000_003))]).status_code == 202
    import hashlib

    digest = hashlib.sha256(picture(1_000_003)).hexdigest()
    for path in [path for path in Bucket.kept if digest in path]:
        del Bucket.kept[path]
    stack.start_workers(1)
    stack.settle(30, failed={"lost.png": "blob_missing"})
