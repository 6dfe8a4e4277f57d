"""Hostile tenants of a soak test: one key floods in many ways, while another one's images are answered."""

import functools
import itertools
import os
import threading
import time
from datetime import datetime

import httpx

from tests.support import image_files

MAX_P99_SECONDS = 2.0
MIN_FOLDER_SPEED = 0.5  # of the speed without the flood
FOLDER_IMAGES = 300
SINGLE_EVERY_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0  # until a request of the quiet key is not repeated any more
PREFIX = "hostile-"
"""Of the names of all images sent here: the history of the ordinary load does not know them."""


class GivenUp(Exception):
    """A request had no successful response, however often it was repeated."""


@functools.cache
def slow_image(number):
    """Return a PNG of 36 megapixels and few bytes, which takes about half a second to decode."""
    return image_files.make("PNG", (6000, 6000), (number % 256, 0, 0))


def _phases(job, accept_seconds, all_seconds):
    """Return the seconds in which a single image was accepted, claimed, processed, and its result reported."""
    created, claimed, finished = (
        datetime.fromisoformat(job[name]) for name in ("created_at", "started_at", "finished_at")
    )
    phases = {"claim": (claimed - created).total_seconds(), "process": (finished - claimed).total_seconds()}
    report_seconds = all_seconds - accept_seconds - sum(phases.values())
    return {
        name: round(value, 3) for name, value in {"accept": accept_seconds, **phases, "report": report_seconds}.items()
    }


def _meets(single, outage):
    """Return whether a single image was under way during an outage, (start, end)."""
    return single["sent"] <= outage[1] and outage[0] <= single["sent"] + single["seconds"]


def _percentiles(singles):
    """Return the median, the 99th percentile and the maximum of how long images took, in seconds."""
    waits = sorted(single["seconds"] for single in singles) or [float("inf")]
    p99 = waits[min(len(waits) - 1, int(len(waits) * 0.99))]
    return {"p50": waits[len(waits) // 2], "p99": p99, "slowest": waits[-1]}


class HostileTenants:
    """Two keys: `flood` sends whatever costs most, `quiet` sends single images and one folder.

    Attributes:
        singles: for each single image of the quiet key, when it was sent, after how many seconds its result was there,
            and of these, how many it took to be accepted, to be claimed, to get its result, and to be reported.
        refusals: how often the flood was refused, by status.
        quiet_refusals: how often a request of the quiet key had to be repeated, by the reason.
    """

    def __init__(self, stack, small_image):
        self._stack = stack
        self._small_image = small_image
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._keys = {name: self._create_key(name) for name in ("flood", "quiet")}
        self.singles, self.failures = [], []
        self.refusals, self.quiet_refusals = {}, {}
        self.alone_seconds = self.flooded_seconds = None

    def start(self):
        """Time a folder without the flood, then begin it, with the quiet key's singles beside it."""
        self._started = time.monotonic()
        self.alone_seconds = self._time_folder()
        floods = (self._flood_slow, self._flood_same, self._flood_interactive, self._flood_waits, self._flood_garbage)
        for action in (*floods, self._flood_connections):
            threading.Thread(target=self._repeat, args=(action,), daemon=True).start()
        threading.Thread(target=self._send_singles, daemon=True).start()
        threading.Thread(target=self._time_flooded_folder, daemon=True).start()

    def stop(self):
        """End the flood, and cancel what it has queued."""
        self._stop.set()
        with self._client("flood") as client:
            for status in ("queued", "running"):
                self._cancel_all(client, f"/v1/jobs?status={status}&limit=1000")

    def _cancel_all(self, client, path):
        cancelled = set()  # such a job stays open while a worker has some of its images
        while jobs := {job["id"] for job in self._retry(lambda: client.get(path))["jobs"]} - cancelled:
            for job_id in jobs:
                self._retry(lambda url=f"/v1/jobs/{job_id}/cancel": client.post(url))
            cancelled |= jobs

    def summary(self, outages=()):
        """Return what the quiet key has seen, and whether that is as promised.

        Args:
            outages: times in which nothing could be served, as (start, end): the singles that met none are shown apart.
        """
        outside = [single for single in self.singles if not any(_meets(single, outage) for outage in outages)]
        seconds = _percentiles(self.singles)
        speed = self.alone_seconds / self.flooded_seconds if self.flooded_seconds else 0.0
        return {
            "singles": {"all": len(self.singles), "outside outages": len(outside)},
            "failures": self.failures[:20],
            "outage_seconds": sum(end - start for start, end in outages),
            "seconds": {"all": seconds, "outside outages": _percentiles(outside)},
            "slowest_outside_outages": sorted(outside, key=lambda single: -single["seconds"])[:10],
            "folder_seconds": {"alone": self.alone_seconds, "flooded": self.flooded_seconds},
            "folder_speed": speed,
            "answers_to_the_flood": self.refusals,
            "answers_to_the_quiet_key": self.quiet_refusals,
            "ok": not self.failures and seconds["p99"] <= MAX_P99_SECONDS and speed >= MIN_FOLDER_SPEED,
        }

    def _create_key(self, name):
        with self._stack.client() as client:
            response = client.post("/v1/keys", json={"name": name, "role": "submit"})
            response.raise_for_status()
            return response.json()["key"]

    def _client(self, name):
        return self._stack.client(timeout=60, headers={"Authorization": f"Bearer {self._keys[name]}"})

    def _repeat(self, action):
        with self._client("flood") as client:
            while not self._stop.is_set():
                try:
                    response = action(client)
                except httpx.TransportError:
                    response = None
                status = "none" if response is None else str(response.status_code)
                self.refusals[status] = self.refusals.get(status, 0) + 1
                self._stop.wait(0.5)

    def _names(self, count):
        return [f"{PREFIX}{number:07}.png" for number in itertools.islice(self._numbers, count)]

    def _post(self, client, files, headers=None, **fields):
        return client.post("/v1/jobs", files=[("images", file) for file in files], data=fields, headers=headers)

    def _flood_slow(self, client):
        files = [(name, slow_image(number) + os.urandom(8)) for number, name in enumerate(self._names(2))]
        return self._post(client, files, priority="interactive")

    def _flood_same(self, client):
        data = slow_image(0)
        return self._post(client, [(name, data) for name in self._names(2)], fresh="true")

    def _flood_interactive(self, client):
        files = [(name, self._small_image + os.urandom(8)) for name in self._names(500)]
        return self._post(client, files, priority="interactive")

    def _flood_waits(self, client):
        response = client.get("/v1/jobs?limit=1")
        jobs = response.json()["jobs"] if response.is_success else []
        return client.get(f"/v1/jobs/{jobs[0]['id']}?wait=2") if jobs else response

    def _flood_garbage(self, client):
        files = [(name, os.urandom(200_000)) for name in self._names(20)]
        return self._post(client, files)

    def _flood_connections(self, client):
        return client.post("/v1/jobs", content=b"{" * 1_000_000, headers={"Content-Type": "application/json"})

    def _send_singles(self):
        with self._client("quiet") as client:
            while not self._stop.wait(SINGLE_EVERY_SECONDS):
                started = time.monotonic()
                try:
                    job = self._submit(client, self._new_files(1), priority="interactive")
                    accepted = time.monotonic()
                    job = self._wait_for_end(client, job, wait=5)
                except GivenUp as error:
                    self.failures.append(f"at {started - self._started:.0f} s: {error}")
                else:
                    seconds = time.monotonic() - started
                    phases = _phases(job, accepted - started, seconds)
                    self.singles.append({"sent": started, "seconds": seconds, **phases})

    def _time_flooded_folder(self):
        self._stop.wait(10)
        self.flooded_seconds = self._time_folder()

    def _time_folder(self):
        started = time.monotonic()
        with self._client("quiet") as client:
            self._wait_for_end(client, self._submit(client, self._new_files(FOLDER_IMAGES)), wait=10)
        return time.monotonic() - started

    def _new_files(self, count):
        return [(name, self._small_image + os.urandom(8)) for name in self._names(count)]

    def _submit(self, client, files, **fields):
        """Submit a job as a good client does: repeat it under its idempotency key until it is accepted."""
        headers = {"Idempotency-Key": files[0][0]}
        return self._retry(lambda: self._post(client, files, headers, **fields))

    def _wait_for_end(self, client, job, wait):
        while job["status"] not in ("done", "failed", "cancelled"):
            job = self._retry(lambda url=f"/v1/jobs/{job['id']}?wait={wait}": client.get(url))
        return job

    def _retry(self, send):
        """Return the body of the first successful response; count the others.

        Raises:
            GivenUp: there is none for too long.
        """
        deadline, reason = time.monotonic() + GIVE_UP_SECONDS, ""
        while time.monotonic() < deadline:
            try:
                response = send()
            except httpx.TransportError as error:
                response, reason = None, type(error).__name__
            if response is not None and response.is_success:
                return response.json()
            if response is not None:
                reason = f"{response.status_code} {response.text[:200]}"
            self.quiet_refusals[reason] = self.quiet_refusals.get(reason, 0) + 1
            time.sleep(0.2 if response is None else min(2.0, float(response.headers.get("Retry-After", 0.3))))
        raise GivenUp(reason)
