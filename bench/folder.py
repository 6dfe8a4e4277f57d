"""What `sortbelt enqueue` costs in memory: `python -m bench.folder FOLDER [COUNT]` fills FOLDER with drawn JPEGs first.

A server of its own answers, which keeps names and digests but no picture; SIGKILL hits the enqueuer KILLS times.
Prints resident memory against pictures sent, and what the reruns came to.
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

from tests.sortbelt import fakeserver

KILLS = 5
STAMP = b"<picture %07d>"


class Sink(fakeserver.FakeServer):
    """The tests' fake server, but pictures are let go once they are hashed."""

    def add(self, job: dict[str, Any], pictures: list[tuple[str, bytes]]) -> None:
        """Keep what identifies a picture."""
        for name, data in pictures:
            digest = hashlib.sha256(data).hexdigest()
            self.blobs[digest] = b"x"
            self.received[name] += 1
            job["images"].setdefault(name, b"x")

    def as_json(self, job: dict[str, Any]) -> dict[str, Any]:
        """Counts without looking at each picture, of which there are too many for that."""
        counts = dict.fromkeys(("queued", "running", "failed", "cancelled", "expired"), 0)
        counts |= {"total": len(job["images"]), "done": len(job["images"])}
        status = "done" if job["sealed"] else "running"
        return {"id": job["id"], "status": status, "counts": counts, "sealed": job["sealed"], "model": "fake"}


def draw(folder: Path, count: int) -> None:
    """Small JPEGs, each of another content and stamped with its number; a few thousand to a folder, the rest in one."""
    for number in range(count):
        path = folder / (f"{number // 3000}" if number < count // 5 else "big") / f"{number:07}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, number // 65536))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90, comment=STAMP % number)
        path.write_bytes(file.getvalue())


def run(server: Sink, folder: Path, kill_after: float | None, memory: dict[int, int]) -> int:
    """One enqueuer, to its end or its death; its memory against what was sent."""
    environ = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": fakeserver.KEY}
    command = [sys.executable, "-m", "sortbelt", "enqueue", str(folder), "--json"]
    started = time.monotonic()
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with_it = sum(len(job["images"]) for job in server.jobs.values())
            try:
                memory[with_it // 1000 * 1000] = watched.memory_info().rss
            except psutil.Error:
                break
            if kill_after is not None and time.monotonic() - started > kill_after:
                process.kill()
            time.sleep(0.05)
    return process.wait()


def main(folder: Path, count: int) -> None:
    """Draw, enqueue under kills, and once more without."""
    draw(folder, count)
    for kills in (0, KILLS):
        with tempfile.TemporaryDirectory() as state:
            os.environ["XDG_STATE_HOME"] = state
            server = Sink()
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            memory: dict[int, int] = {}
            started = time.monotonic()
            codes = [run(server, folder, random.uniform(3, 15), {}) for _ in range(kills)]  # noqa: S311
            codes.append(run(server, folder, None, memory))
            seconds = time.monotonic() - started
            jobs = {job["id"]: len(job["images"]) for job in server.jobs.values()}
            twice = sum(times > 1 for times in server.received.values())
            print(f"{kills} kills: exit codes {codes}, jobs {jobs}, bytes sent twice {twice}, {seconds:.0f} s")
            for sent in sorted(memory)[:: max(1, len(memory) // 12)]:
                print(f"  {sent:>8} pictures  {memory[sent] / 1e6:6.1f} MB")
            after = [size for sent, size in memory.items() if sent >= 1000 and size]
            if after:
                print(f"  after the first 1,000: {min(after) / 1e6:.1f} to {max(after) / 1e6:.1f} MB")
            server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
