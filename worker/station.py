"""The station: everything one worker process works with, opened once, and its life outside the task.

Besides the `drain` task, which the bell starts, two threads run here: one keeps the leases and shows life, the other
looks for work when no bell has been heard for a while, so that nothing waits for ever when Redis is gone.
"""

import logging
import os
import secrets
import socket
import threading
import time

from jobs import bell, blobs, database, errors, rescue, settings
from jobs.store import work, workers
from model import bundle, classifier, selftest
from worker import classify, decoders, drain

log = logging.getLogger(__name__)
STUCK_EXIT = 70
PATIENCE_SECONDS = 30.0  # how long a worker waits for its database at the start


class Station:
    """One worker process: its model, its decoders, its drain, its threads."""

    def __init__(self, wanted: settings.Settings) -> None:
        """Load the model, start the decoders, enter the table of workers.

        Raises:
            model.manifest.BadBundle: the model's bundle cannot be used.
            errors.DatabaseUnavailable: the database does not answer, or was not migrated.
        """
        self.settings = wanted
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.db = database.Database(wanted.database_url)
        self.bell = bell.Bell(wanted.redis_url)
        network = classifier.Classifier(bundle.load(wanted.bundle), wanted.device)
        selftest.check(network)
        made = network.bundle
        self.maker = work.Maker(made.name, made.version, made.digest)
        limits = decoders.Limits(wanted.decode_seconds, wanted.decode_memory_bytes)
        store = blobs.open_blobs(wanted.blobs)
        self.decoders = decoders.Decoders(wanted.decoders, made.preprocess, store, limits)
        judge = classify.Judge(network)
        self.drain = drain.Drain(wanted, self.id, self.db, self.bell, self.decoders, judge, self.maker)
        self._enter(f"{network.device}, {network.precision}")
        self._stop = threading.Event()
        for name, loop in (("life", self._live), ("idle ring", self._ring)):
            threading.Thread(target=loop, name=name, daemon=True).start()
        log.info("worker %s serves %s %s on %s", self.id, made.name, made.version, network.device)

    def _enter(self, device: str) -> None:
        """Enter the table of workers; a database that is only just starting, or being migrated, is waited for."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.db.write(workers.enter, self.id, self.maker, device)
            except errors.DatabaseUnavailable:
                if time.monotonic() > deadline:
                    self.decoders.close()
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """Take no new batch; the one at hand is finished."""
        self._stop.set()
        self.drain.stop()

    def close(self) -> None:
        """Finish the batch at hand, hand back what was claimed beyond it, and leave."""
        self.stop()
        self.drain.close()
        self.decoders.close()
        try:
            self.db.write(workers.leave, self.id)
        except errors.DatabaseUnavailable as error:
            log.warning("%s", error.detail)

    def _live(self) -> None:
        """Renew the leases, show life, rescue what others lost; end the process if its work stands still."""
        while not self._stop.wait(min(self.settings.lease_seconds / 4, 5.0)):
            if self.drain.stands_still(self.settings.stuck_seconds):
                log.critical("no progress for %s s: this worker ends itself", self.settings.stuck_seconds)
                os._exit(STUCK_EXIT)
            try:
                self.db.write(work.renew, self.drain.in_hand(), lease_seconds=self.settings.lease_seconds)
                self.db.write(workers.show_life, self.id, self.drain.take_count())
                if rescue.sweep(self.db, max_attempts=self.settings.max_attempts):
                    self.bell.ring()
            except errors.DatabaseUnavailable as error:
                log.warning("%s", error.detail)

    def _ring(self) -> None:
        """Work without a bell, whenever there was none for a while."""
        pause = self.settings.idle_ring_seconds
        while not self._stop.wait(pause):
            if time.monotonic() - self.drain.ended_at >= pause:
                self.drain.run()
