"""Memory of `sortbelt enqueue`, with and without kills: `python -m benchmarks.enqueue_memory FOLDER [COUNT]`.

Fills FOLDER with drawn JPEGs first. A fake server keeps names and digests, but no image; the enqueuer is killed
(SIGKILL) KILLS times. Prints resident memory by images sent, and the outcome of the reruns.
"""

import hashlib
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from tests.support import fake_api

KILLS = 5
COMMENT_FORMAT = b"<image %07d>"


class HashingFakeServer(fake_api.FakeServer):
    """The tests' fake server, but without keeping image bytes after they are hashed."""

    def add_images(self, job: dict[str, Any], images: list[tuple[str, bytes]]) -> None:
        """Add images by name and digest only."""
        for name, data in images:
            digest = hashlib.sha256(data).hexdigest()
            self.blobs[digest] = b"x"
            self.upload_counts[name] += 1
            job["images"].setdefault(name, b"x")

    def as_json(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return a job with counts that need no loop over its images, which are too many for that."""
        counts = dict.fromkeys(("queued", "running", "failed", "cancelled", "expired"), 0)
        counts |= {"total": len(job["images"]), "done": len(job["images"])}
        status = "done" if job["sealed"] else "running"
        return {"id": job["id"], "status": status, "counts": counts, "sealed": job["sealed"], "model": "fake"}


def draw_images(folder: Path, count: int) -> None:
    """Draw small JPEGs, each unique and with its number as a comment; 20 % in folders of 3,000, the rest in one."""
    for number in range(count):
        path = folder / (f"{number // 3000}" if number < count // 5 else "big") / f"{number:07}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, number // 65536))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90, comment=COMMENT_FORMAT % number)
        path.write_bytes(buffer.getvalue())


def run_enqueue(server: HashingFakeServer, folder: Path, kill_after: float | None, rss_by_sent: dict[int, int]) -> int:
    """Run one enqueuer until it ends or is killed, recording its memory by images sent; return its exit code."""
    environ = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": fake_api.KEY}
    command = [sys.executable, "-m", "sortbelt", "enqueue", str(folder), "--json"]
    started = time.monotonic()
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        client_process = psutil.Process(process.pid)
        while process.poll() is None:
            sent_count = sum(len(job["images"]) for job in server.jobs.values())
            try:
                rss_by_sent[sent_count // 1000 * 1000] = client_process.memory_info().rss
            except psutil.Error:
                break
            if kill_after is not None and time.monotonic() - started > kill_after:
                process.kill()
            time.sleep(0.05)
    return process.wait()


def main(folder: Path, count: int) -> None:
    """Draw images, enqueue them without kills and with KILLS kills, and print the figures."""
    draw_images(folder, count)
    for kills in (0, KILLS):
        with tempfile.TemporaryDirectory() as state:
            os.environ["XDG_STATE_HOME"] = state
            server = HashingFakeServer()  # type: ignore[no-untyped-call]
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            rss_by_sent: dict[int, int] = {}
            started = time.monotonic()
            exit_codes = [run_enqueue(server, folder, random.uniform(3, 15), {}) for _ in range(kills)]  # noqa: S311
            exit_codes.append(run_enqueue(server, folder, None, rss_by_sent))
            seconds = time.monotonic() - started
            jobs = {job["id"]: len(job["images"]) for job in server.jobs.values()}
            resent = sum(times > 1 for times in server.upload_counts.values())
            print(f"{kills} kills: exit codes {exit_codes}, jobs {jobs}, bytes sent twice {resent}, {seconds:.0f} s")
            for sent in sorted(rss_by_sent)[:: max(1, len(rss_by_sent) // 12)]:
                print(f"  {sent:>8} images   {rss_by_sent[sent] / 1e6:6.1f} MB")
            later_sizes = [size for sent, size in rss_by_sent.items() if sent >= 1000 and size]
            if later_sizes:
                print(f"  after the first 1,000: {min(later_sizes) / 1e6:.1f} to {max(later_sizes) / 1e6:.1f} MB")
            server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
