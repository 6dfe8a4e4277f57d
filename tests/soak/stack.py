"""The stack of a soak test: servers behind proxies, processes restarted when they end, progress sampled."""

import contextlib
import subprocess
import threading
import time
from typing import ClassVar

import httpx
import sqlalchemy as sa

from core import errors
from core.db import database
from migrations.__main__ import upgrade
from tests.faults import postgres_server as postgresql
from tests.faults import stack, tcp_proxy
from tests.support import factories

WORKERS = 2
DISK_SIZE = "6g"  # of the blob store: it can be filled, and has space for the images of a long run, 4 KB each


class SoakStack(stack.Stack):
    """A stack with its own PostgreSQL server, which may be a target of faults too.

    Attributes:
        server: the PostgreSQL server.
        postgres_proxy: the proxy between Sortbelt and PostgreSQL.
        lost_claims: claims of killed workers: when they were killed, the images, and when all of these had finished.
        restarts: how often a process was restarted.
        progress: samples of (seconds since the start, images finished).
        small_disk: whether the blob store is on a small file system that can be filled.
    """

    default_settings: ClassVar = {}  # the product's defaults

    @classmethod
    def start_in(cls, folder, **settings):
        """Start all servers with the product's default settings, except those given."""
        server = postgresql.Postgres()
        direct_url = server.database("soak")
        db = database.Database(direct_url)
        db.write(upgrade)
        db.close()
        soak_stack = cls(folder, direct_url, settings)
        soak_stack.server, soak_stack.postgres_proxy = server, tcp_proxy.Proxy(server.port)
        soak_stack.settings |= {"database_url": server.url("soak", soak_stack.postgres_proxy.port)}
        soak_stack.lost_claims, soak_stack.restarts, soak_stack.progress = [], 0, []
        soak_stack._closed = threading.Event()
        soak_stack._observer = sa.create_engine(f"{direct_url}?application_name=observer", pool_pre_ping=True)
        soak_stack.blobs.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "none", str(soak_stack.blobs)]
        soak_stack.small_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        try:
            soak_stack.start_redis()
            soak_stack.start_api()
            soak_stack.start_workers(WORKERS, fault="segfaults")
        except BaseException:
            soak_stack.close()
            raise
        return soak_stack

    def supervise(self, started):
        """Restart API and workers when they end, and sample the progress, until `close`."""
        for task in (self._restart_workers, self._restart_api, lambda: self._sample_progress(started)):
            threading.Thread(target=self._repeat_until_closed, args=(task,), daemon=True).start()

    def _repeat_until_closed(self, task):
        while not self._closed.wait(0.3):
            # An AssertionError: the API was killed while it was starting, by the next fault.
            with contextlib.suppress(OSError, AssertionError):
                task()

    def _restart_workers(self):
        for _ in range(WORKERS - sum(worker.is_alive for worker in self.workers)):
            self.start_worker(fault="segfaults")
            self.restarts += 1

    def _restart_api(self):
        if self.api.poll() is not None:
            self.start_api()
            self.restarts += 1

    def _sample_progress(self, started):
        finished_images = factories.JOBS.c.done + factories.JOBS.c.failed
        with contextlib.suppress(sa.exc.DBAPIError), self._observer.connect() as conn:
            self.progress.append(
                (time.monotonic() - started, int(conn.execute(sa.select(sa.func.sum(finished_images))).scalar() or 0))
            )
            for lost_claim in self.lost_claims:
                if (
                    lost_claim["ended"] is None
                    and not conn.execute(
                        self._open_images_query().where(factories.IMAGES.c.id.in_(lost_claim["ids"]))
                    ).first()
                ):
                    lost_claim["ended"] = time.monotonic() - lost_claim["at"]

    @staticmethod
    def _open_images_query():
        return sa.select(factories.IMAGES.c.name).where(factories.IMAGES.c.status.in_(["queued", "running"]))

    def record_claims_of(self, pid):
        """Record the claims of a worker that is about to be killed."""
        query = sa.select(factories.IMAGES.c.id).where(
            factories.IMAGES.c.status == "running", factories.IMAGES.c.worker.like(f"%:{pid}:%")
        )
        with contextlib.suppress(sa.exc.DBAPIError), self._observer.connect() as conn:
            if ids := conn.execute(query).scalars().all():
                self.lost_claims.append({"at": time.monotonic(), "ids": ids, "ended": None})

    def wait_until_it_serves(self, seconds):
        """Wait until the API reaches the database and a worker has started, for `seconds` at most."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._serves():
            time.sleep(0.1)

    def _serves(self):
        with contextlib.suppress(httpx.TransportError, sa.exc.DBAPIError, errors.DatabaseUnavailable):
            with self.client(timeout=5) as client:
                is_answering = client.get("/v1/jobs?limit=1").is_success
            return is_answering and any(worker.is_alive and self.is_registered(worker) for worker in self.workers)
        return False

    def open_image_names(self):
        """Return the names of the images that have not finished."""
        with self._observer.connect() as conn:
            return set(conn.execute(self._open_images_query()).scalars())

    def all_results(self):
        """Return (name, label or error code) of every result of the load's key, read through the API."""
        results, url = [], "/v1/results?limit=1000&owner=admin"
        with self.client(timeout=60) as client:
            while url:
                page = client.get(url)
                page.raise_for_status()
                results += [
                    (result["image"], result["label"] or (result["error"] or {}).get("code"))
                    for result in page.json()["results"]
                ]
                url = page.links.get("next", {}).get("url")
        return results

    def wait_until_drained(self, seconds):
        """Wait until every image has finished, or none has for `seconds`; return the seconds waited."""
        started = last_change = time.monotonic()
        previous_count = None
        while time.monotonic() - last_change < seconds:
            try:
                open_count = len(self.open_image_names())
            except (sa.exc.DBAPIError, errors.DatabaseUnavailable):
                open_count = previous_count
            if open_count == 0:
                break
            if open_count != previous_count:
                previous_count, last_change = open_count, time.monotonic()
            time.sleep(0.5)
        return time.monotonic() - started

    def close(self):
        """Stop all processes and servers, and unmount the small disk."""
        self._closed.set()
        time.sleep(0.5)
        super().close()
        self._observer.dispose()
        self.postgres_proxy.close()
        self.server.close()
        if self.small_disk:
            subprocess.run(["umount", "--lazy", str(self.blobs)], check=True)
