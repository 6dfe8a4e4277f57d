"""The load of a soak: pictures handed in at a steady rate by clients that try again, as good clients do."""

import itertools
import random
import threading
import time

import httpx

from tests.faults.stack import POISON, picture

IMAGES_IN_A_JOB = 25
BAD_EVERY = 50  # of so many pictures one is bad
POOL = 40
PATIENCE_SECONDS = 60.0
BAD = {
    "text.png": (b"this is no picture", {"unsupported_format"}),
    "cut.png": (picture(3)[:60], {"undecodable"}),
    "empty.png": (b"", {"empty"}),
}


class Load:
    """Clients that hand in a number of pictures over a time.

    Attributes:
        labels: what each picture of the pool is when all is well; learnt before the soak.
    """

    def __init__(self, stack, history, images, seconds, started):
        self.stack = stack
        self.history = history
        self.images = images
        self.seconds = seconds
        self.started = started
        self.labels = {}
        self.pool = [picture(n * 17) for n in range(POOL)]
        self._numbers = itertools.count()
        self._jobs = itertools.count()
        self._threads = [threading.Thread(target=self._flow, args=(n,), daemon=True) for n in range(4)]

    def learn(self):
        """See what every picture of the pool is, before anything is hurt."""
        with self.stack.client() as client:
            files = [(f"pool-{n}.png", data) for n, data in enumerate(self.pool)]
            job = self._post(client, files, "pool")
            for attempt in range(600):
                found = client.get(f"/v1/jobs/{job['id']}/results?limit=100").json()["results"]
                if len(found) == POOL:
                    break
                time.sleep(0.1 if attempt < 300 else 0.5)
        self.labels = {int(one["image"][5:-4]): one["label"] for one in found}
        self.history.attempt({f"pool-{n}.png": {label} for n, label in self.labels.items()})
        self.history.acknowledge([name for name, _ in files])

    def start(self):
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds):
        """Wait until all was handed in."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))

    @property
    def over(self):
        """Whether all was handed in."""
        return not any(thread.is_alive() for thread in self._threads)

    def hand_in(self, files, expected, times=1):
        """Hand in something by the way, so many times at once under one key; what came back."""
        with self.stack.client() as client:
            return self._job(client, files, expected, times)

    def poison(self):
        """A picture that takes its worker down."""
        name = f"poison-{next(self._numbers):07}.png"
        self.hand_in([(name, POISON + name.encode())], {name: {"worker_lost"}})

    def good(self, count):
        """New good pictures: (name, bytes) of each, and what is expected of them."""
        files, expected = [], {}
        for number in itertools.islice(self._numbers, count):
            name, kind = f"{number:07}.png", number % POOL
            # Decoders ignore what follows the end of a picture; it makes the bytes unique.
            files.append((name, self.pool[kind] + number.to_bytes(8, "big")))
            expected[name] = {self.labels[kind]}
        return files, expected

    def _flow(self, number):
        dice = random.Random(number)  # noqa: S311 (a load, not a secret)
        with self.stack.client(timeout=20) as client:
            while (job := next(self._jobs)) * IMAGES_IN_A_JOB < self.images:
                due = self.started + self.seconds * job * IMAGES_IN_A_JOB / self.images
                time.sleep(max(0.0, due - time.monotonic()))
                count = min(IMAGES_IN_A_JOB, self.images - job * IMAGES_IN_A_JOB)
                files, expected = self.good(count - count // 25)
                for _ in range(count // 25):
                    if dice.random() * BAD_EVERY < 25:
                        kind = dice.choice(list(BAD))
                        name = f"{next(self._numbers):07}-{kind}"
                        files.append((name, BAD[kind][0]))
                        expected[name] = BAD[kind][1]
                    else:
                        more, what = self.good(1)
                        files += more
                        expected |= what
                self._job(client, files, expected)

    def _job(self, client, files, expected, times=1):
        self.history.attempt(expected)
        key = f"job-{files[0][0]}"
        answers = [self._post(client, files, key) for _ in range(times)]
        if any(answers):
            self.history.acknowledge([name for name, _ in files])
        return answers

    def _post(self, client, files, key):
        """One request, tried again under its key until it is answered for good; its job, or None."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            begun = time.monotonic()
            try:
                answer = client.post(
                    "/v1/jobs", files=[("images", file) for file in files], headers={"Idempotency-Key": key}
                )
                status = str(answer.status_code)
            except httpx.TransportError as error:
                answer, status = None, type(error).__name__
            now = time.monotonic()
            self.history.answers.append((begun - self.started, now - begun, status))
            if answer is not None and answer.status_code == 202:
                return answer.json()
            time.sleep(min(2.0, float(answer.headers.get("Retry-After", 0.3))) if answer is not None else 0.2)
        return None
