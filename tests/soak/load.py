"""The load of a soak test: clients that submit images at a steady rate, and retry as good clients do."""

import itertools
import random
import threading
import time

import httpx

from tests.faults.stack import POISON_IMAGE, make_image

IMAGES_PER_JOB = 25
BAD_EVERY = 50  # one image in this many is invalid
POOL_SIZE = 40
RETRY_SECONDS = 60.0
BAD_FILES = {
    "text.png": (b"this is not an image", {"unsupported_format"}),
    "cut.png": (make_image(3)[:60], {"undecodable"}),
    "empty.png": (b"", {"empty"}),
}


class Load:
    """Clients that submit a number of images over a duration.

    Attributes:
        labels: expected label of each image of the pool, by its number; learnt before the first fault.
    """

    def __init__(self, stack, history, images, seconds, started):
        self.stack = stack
        self.history = history
        self.images = images
        self.seconds = seconds
        self.started = started
        self.labels = {}
        self.pool = [make_image(n * 17) for n in range(POOL_SIZE)]
        self._numbers = itertools.count()
        self._jobs = itertools.count()
        self._threads = [threading.Thread(target=self._submit_loop, args=(n,), daemon=True) for n in range(4)]

    def learn_labels(self):
        """Classify every image of the pool once, before any fault, and record the labels."""
        with self.stack.client() as client:
            files = [(f"pool-{n}.png", data) for n, data in enumerate(self.pool)]
            job = self._post_with_retry(client, files, "pool")
            for attempt in range(600):
                results = client.get(f"/v1/jobs/{job['id']}/results?limit=100").json()["results"]
                if len(results) == POOL_SIZE:
                    break
                time.sleep(0.1 if attempt < 300 else 0.5)
        self.labels = {int(result["image"][5:-4]): result["label"] for result in results}
        self.history.attempt({f"pool-{n}.png": {label} for n, label in self.labels.items()})
        self.history.acknowledge([name for name, _ in files])

    def start(self):
        """Start the client threads."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds):
        """Wait up to `seconds` until every image was submitted."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))

    @property
    def is_finished(self):
        """Whether every image was submitted."""
        return not any(thread.is_alive() for thread in self._threads)

    def submit(self, files, expected, times=1):
        """Submit extra files `times` times under one idempotency key; return the accepted jobs (None: given up)."""
        with self.stack.client() as client:
            return self._submit_job(client, files, expected, times)

    def submit_poison_image(self):
        """Submit an image that crashes its worker."""
        name = f"poison-{next(self._numbers):07}.png"
        self.submit([(name, POISON_IMAGE + name.encode())], {name: {"worker_lost"}})

    def make_good_files(self, count):
        """Return `count` new valid images as (name, bytes), and their expected outcomes."""
        files, expected = [], {}
        for number in itertools.islice(self._numbers, count):
            name, kind = f"{number:07}.png", number % POOL_SIZE
            # Decoders ignore bytes after the end of an image; these make each file unique.
            files.append((name, self.pool[kind] + number.to_bytes(8, "big")))
            expected[name] = {self.labels[kind]}
        return files, expected

    def _submit_loop(self, number):
        rng = random.Random(number)  # noqa: S311 (a load, not a secret)
        with self.stack.client(timeout=20) as client:
            while (job := next(self._jobs)) * IMAGES_PER_JOB < self.images:
                due = self.started + self.seconds * job * IMAGES_PER_JOB / self.images
                time.sleep(max(0.0, due - time.monotonic()))
                count = min(IMAGES_PER_JOB, self.images - job * IMAGES_PER_JOB)
                files, expected = self.make_good_files(count - count // 25)
                for _ in range(count // 25):
                    if rng.random() * BAD_EVERY < 25:
                        kind = rng.choice(list(BAD_FILES))
                        name = f"{next(self._numbers):07}-{kind}"
                        files.append((name, BAD_FILES[kind][0]))
                        expected[name] = BAD_FILES[kind][1]
                    else:
                        extra_files, extra_expected = self.make_good_files(1)
                        files += extra_files
                        expected |= extra_expected
                self._submit_job(client, files, expected)

    def _submit_job(self, client, files, expected, times=1):
        self.history.attempt(expected)
        key = f"job-{files[0][0]}"
        accepted = [self._post_with_retry(client, files, key) for _ in range(times)]
        if any(accepted):
            self.history.acknowledge([name for name, _ in files])
        return accepted

    def _post_with_retry(self, client, files, key):
        """POST one job, retried under its idempotency key until it gets a 202; return the job, or None."""
        deadline = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < deadline:
            started = time.monotonic()
            try:
                response = client.post(
                    "/v1/jobs", files=[("images", file) for file in files], headers={"Idempotency-Key": key}
                )
                status = str(response.status_code)
            except httpx.TransportError as error:
                response, status = None, type(error).__name__
            now = time.monotonic()
            self.history.responses.append((started - self.started, now - started, status))
            if response is not None and response.status_code == 202:
                return response.json()
            time.sleep(min(2.0, float(response.headers.get("Retry-After", 0.3))) if response is not None else 0.2)
        return None
