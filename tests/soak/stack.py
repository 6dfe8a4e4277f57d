"""The stack of a soak: everything behind proxies, kept alive by a supervisor, watched from the side."""

import contextlib
import subprocess
import threading
import time
from typing import ClassVar

import sqlalchemy as sa

from jobs import database, errors
from migrations.__main__ import upgrade
from tests.faults import postgres as postgresql
from tests.faults import proxy, stack
from tests.jobs import making

WORKERS = 2
DISK = "700m"  # of pictures, so that it can be filled


class Soaked(stack.Stack):
    """A stack with a PostgreSQL of its own that may be hurt too.

    Attributes:
        held: what killed workers held: when they were killed, the images, and when all of these had ended.
        restarts: how often the supervisor has started something again.
    """

    usual: ClassVar = {}  # as people run it

    @classmethod
    def make(cls, folder, **settings):
        """Start the servers, with the product's own settings but for those given."""
        server = postgresql.Postgres()
        direct = server.database("soak")
        db = database.Database(direct)
        db.write(upgrade)
        db.close()
        made = cls(folder, direct, settings)
        made.server, made.line = server, proxy.Proxy(server.port)
        made.settings |= {"database_url": server.url("soak", made.line.port)}
        made.held, made.restarts, made.progress = [], 0, []
        made._over = threading.Event()
        made._watch = sa.create_engine(f"{direct}?application_name=observer", pool_pre_ping=True)
        made.blobs.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(made.blobs)]
        made.small_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        made.start_redis()
        made.start_api()
        made.start_workers(WORKERS, fault="segfaults")
        return made

    def supervise(self, started):
        """Keep API and workers alive, and take down how many pictures have ended, until `close`."""
        for what in (self._keep_workers, self._keep_api, lambda: self._observe(started)):
            threading.Thread(target=self._again_and_again, args=(what,), daemon=True).start()

    def _again_and_again(self, what):
        while not self._over.wait(0.3):
            with contextlib.suppress(OSError):
                what()

    def _keep_workers(self):
        for _ in range(WORKERS - sum(worker.alive for worker in self.workers)):
            self.start_worker(fault="segfaults")
            self.restarts += 1

    def _keep_api(self):
        if self.api.poll() is not None:
            self.start_api()
            self.restarts += 1

    def _observe(self, started):
        ended = making.JOBS.c.done + making.JOBS.c.failed
        with contextlib.suppress(sa.exc.DBAPIError), self._watch.connect() as c:
            self.progress.append(
                (time.monotonic() - started, int(c.execute(sa.select(sa.func.sum(ended))).scalar() or 0))
            )
            for one in self.held:
                if (
                    one["ended"] is None
                    and not c.execute(self._open().where(making.IMAGES.c.id.in_(one["ids"]))).first()
                ):
                    one["ended"] = time.monotonic() - one["at"]

    @staticmethod
    def _open():
        return sa.select(making.IMAGES.c.name).where(making.IMAGES.c.status.in_(["queued", "running"]))

    def note_held_by(self, pid):
        """Remember what a worker holds that is about to be killed."""
        query = sa.select(making.IMAGES.c.id).where(
            making.IMAGES.c.status == "running", making.IMAGES.c.worker.like(f"%:{pid}:%")
        )
        with contextlib.suppress(sa.exc.DBAPIError), self._watch.connect() as c:
            if ids := c.execute(query).scalars().all():
                self.held.append({"at": time.monotonic(), "ids": ids, "ended": None})

    def still_open(self):
        """The names of the pictures that have not ended."""
        with self._watch.connect() as c:
            return set(c.execute(self._open()).scalars())

    def all_results(self):
        """(name, label or error code) of every result, as the API tells an admin."""
        found, url = [], "/v1/results?limit=1000"
        with self.client(timeout=60) as client:
            while url:
                page = client.get(url)
                page.raise_for_status()
                found += [
                    (one["image"], one["label"] or (one["error"] or {}).get("code")) for one in page.json()["results"]
                ]
                url = page.links.get("next", {}).get("url")
        return found

    def wait_for_the_rest(self, seconds):
        """Wait until nothing is open, or nothing has moved for so long; how long it took."""
        began = moved = time.monotonic()
        before = None
        while time.monotonic() - moved < seconds:
            try:
                now = len(self.still_open())
            except (sa.exc.DBAPIError, errors.DatabaseUnavailable):
                now = before
            if now == 0:
                break
            if now != before:
                before, moved = now, time.monotonic()
            time.sleep(0.5)
        return time.monotonic() - began

    def close(self):
        """End everything."""
        self._over.set()
        time.sleep(0.5)
        super().close()
        self._watch.dispose()
        self.line.close()
        self.server.close()
        if self.small_disk:
            subprocess.run(["umount", "--lazy", str(self.blobs)], check=True)
