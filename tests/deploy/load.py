"""Pictures sent to a server, now and then or all the time, and a record of what the server has promised."""

import collections
import io
import itertools
import random
import threading

from PIL import Image, ImageDraw

from sortbelt.client import Client

BROKEN = "broken.jpg"  # one in every job


def draw(seed: int) -> bytes:
    """A JPEG with some shapes on it."""
    dice = random.Random(seed)  # noqa: S311 (shapes, not secrets)
    picture = Image.new("RGB", (320, 240), (dice.randrange(256), dice.randrange(256), dice.randrange(256)))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, size = dice.randrange(320), dice.randrange(240), dice.randrange(10, 90)
        pen.ellipse((x, y, x + size, y + size), fill=(dice.randrange(256), dice.randrange(256), dice.randrange(256)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


class Load:
    """What was submitted: for each job that the server said it took, the names of its pictures."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jobs: dict[str, list[str]] = {}
        self.error: Exception | None = None
        self._pool = [draw(seed) for seed in range(24)]
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flow, daemon=True)

    @property
    def images(self) -> int:
        """How many pictures the server has taken."""
        return sum(map(len, list(self.jobs.values())))

    def submit(self, count: int) -> str:
        """A job of so many pictures, each unlike any before, and a broken one; its id."""
        files = [(f"{number}.jpg", self._picture(number)) for number in itertools.islice(self._numbers, count)]
        files.append((BROKEN, self._picture(next(self._numbers))[:3000]))
        job = self.client.submit(files)
        self.jobs[job.id] = [name for name, _ in files]
        return job.id

    def start(self) -> None:
        """Go on submitting small jobs until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Submit no more.

        Raises:
            Exception: a submission failed for good.
        """
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def broken_promises(self) -> list[str]:
        """A sentence for each way in which a job did not end as promised; waits for all to end."""
        return [sentence for job, names in self.jobs.items() for sentence in self._broken_promises(job, names)]

    def _broken_promises(self, job_id: str, names: list[str]) -> list[str]:
        job = self.client.wait(job_id, timeout=180)
        results = list(self.client.results(job_id))
        counts = job.counts
        wrong = []
        if (counts.total, counts.done, counts.failed) != (len(names), len(names) - 1, 1):
            wrong.append(f"{job_id}: {len(names)} pictures, one of them broken, are counted as {counts}.")
        if collections.Counter(result.image for result in results) != collections.Counter(names):
            wrong.append(f"{job_id}: the results are not one for each picture.")
        if any((result.label is None) != (result.image == BROKEN) for result in results):
            wrong.append(f"{job_id}: a good picture has no label, or the broken one has.")
        return wrong

    def _picture(self, number: int) -> bytes:
        # Decoders ignore what follows the end of a JPEG; it makes the bytes unique.
        return self._pool[number % len(self._pool)] + number.to_bytes(8, "big")

    def _flow(self) -> None:
        try:
            while not self._stop.wait(1.0):
                self.submit(11)
        except Exception as error:  # noqa: BLE001 (told by `stop`)
            self.error = error
