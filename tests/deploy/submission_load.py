"""Submit images to a server, and record which submissions it accepted."""

import collections
import io
import itertools
import random
import threading

from PIL import Image, ImageDraw

from sortbelt.client.sync_client import Client

BROKEN_NAME = "broken.jpg"  # one in every job


def draw_jpeg(seed: int) -> bytes:
    """Return a JPEG with random shapes."""
    rng = random.Random(seed)  # noqa: S311 (shapes, not secrets)
    image = Image.new("RGB", (320, 240), (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    canvas = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, size = rng.randrange(320), rng.randrange(240), rng.randrange(10, 90)
        canvas.ellipse((x, y, x + size, y + size), fill=(rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


class SubmissionLoad:
    """Submissions to a server: the image names of every accepted job."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jobs: dict[str, list[str]] = {}
        self.error: Exception | None = None
        self._pool = [draw_jpeg(seed) for seed in range(24)]
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit_loop, daemon=True)

    @property
    def image_count(self) -> int:
        """Return the number of accepted images."""
        return sum(map(len, list(self.jobs.values())))

    def submit(self, count: int) -> str:
        """Submit a job of `count` unique images and a broken one; return its id."""
        files = [(f"{number}.jpg", self._unique_jpeg(number)) for number in itertools.islice(self._numbers, count)]
        files.append((BROKEN_NAME, self._unique_jpeg(next(self._numbers))[:3000]))
        job = self.client.submit(files)
        self.jobs[job.id] = [name for name, _ in files]
        return job.id

    def start(self) -> None:
        """Submit small jobs in a thread until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop submitting.

        Raises:
            Exception: a submission failed for good.
        """
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def find_violations(self) -> list[str]:
        """Wait for all jobs to end; return a sentence for each violation."""
        return [sentence for job, names in self.jobs.items() for sentence in self._job_violations(job, names)]

    def _job_violations(self, job_id: str, names: list[str]) -> list[str]:
        job = self.client.wait(job_id, timeout=180)
        results = list(self.client.results(job_id))
        counts = job.counts
        violations = []
        if (counts.total, counts.done, counts.failed) != (len(names), len(names) - 1, 1):
            violations.append(f"{job_id}: {len(names)} images, one of them broken, are counted as {counts}.")
        if collections.Counter(result.image for result in results) != collections.Counter(names):
            violations.append(f"{job_id}: there is not exactly one result per image.")
        if any((result.label is None) != (result.image == BROKEN_NAME) for result in results):
            violations.append(f"{job_id}: a good image has no label, or the broken one has a label.")
        return violations

    def _unique_jpeg(self, number: int) -> bytes:
        # Decoders ignore what follows the end of a JPEG; it makes the bytes unique.
        return self._pool[number % len(self._pool)] + number.to_bytes(8, "big")

    def _submit_loop(self) -> None:
        try:
            while not self._stop.wait(1.0):
                self.submit(11)
        except Exception as error:  # noqa: BLE001 (raised by `stop`)
            self.error = error
