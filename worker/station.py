"""The station: everything one worker process works with, opened once, and its life outside the task.

Besides the `drain` task, which the bell starts, three threads run here: one keeps the leases and shows life, one takes
up models that were promoted, and one looks for work when no bell has been heard for a while, so that nothing waits for
ever when Redis is gone.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from jobs import bell, blobs, database, errors, notices, rescue, settings, sources
from jobs.store import environments, schema, work, workers
from worker import decoders, drain, environment, shadows, shelf

log = logging.getLogger(__name__)
STUCK_EXIT = 70
PATIENCE_SECONDS = 30.0  # how long a worker waits for its database at the start
STOP_SECONDS = 20.0  # how long a batch may stand still once the worker is to stop; whoever stops it waits 30
LAST_WORDS_SECONDS = 3.0


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
        store = blobs.open_blobs(wanted.blobs)
        self.shelf = shelf.Shelf(wanted, self.db, store)
        own = self.shelf.own
        limits = decoders.Limits(wanted.decode_seconds, wanted.decode_memory_bytes)
        self.decoders = decoders.Decoders(wanted.decoders, own.how, store, limits)
        listed = sources.Sources.read(wanted.sources)
        self.shadows = shadows.Shadows(self.db, self.shelf, store, limits, listed)
        told = notices.Notices(wanted.redis_url)
        self._told: object = None
        network = own.judge.network
        at = self._enter(f"{network.device}, {network.precision}", environment.look(network))
        self.drain = drain.Drain(wanted, self.id, self.db, self.bell, self.decoders, self.shelf, self.shadows, told, at)
        self._stop, self._closed = threading.Event(), threading.Event()
        self._moved_at = time.monotonic()
        threading.Thread(target=self._live, name="life", daemon=True).start()
        self._look()
        for name, loop in (("models", self._follow), ("idle ring", self._ring)):
            threading.Thread(target=loop, name=name, daemon=True).start()
        log.info("worker %s serves %s on %s", self.id, self.shelf.serves(), network.device)

    def _enter(self, device: str, where: environments.Environment) -> int:
        """Enter the tables of workers and of environments; the number of the environment.

        A database that is only just starting, or being migrated, is waited for.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.db.write(self._arrive, device, where)
            except errors.DatabaseUnavailable:
                if time.monotonic() > deadline:
                    self.decoders.close()
                    raise
                time.sleep(0.1)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Take no new batch; the one at hand is finished."""
        self._stop.set()
        self.drain.stop()
        log.info("worker %s stops: it takes nothing new, and finishes what is at hand", self.id)

    def close(self) -> None:
        """Finish the batch at hand, hand back what was claimed beyond it, and leave."""
        self.stop()
        self.drain.close()
        self.shadows.close()
        self._closed.set()
        self.decoders.close()
        try:
            self.db.write(workers.leave, self.id)
        except errors.DatabaseUnavailable as error:
            log.warning("%s", error.detail)

    def _arrive(self, c: sa.Connection, device: str, where: environments.Environment) -> int:
        workers.enter(c, self.id, self.shelf.own.maker, device)
        self.shelf.settle(c)
        return environments.enter(c, where)

    def _follow(self) -> None:
        """Look at the registry now and then."""
        while not self._stop.wait(self.settings.models_seconds):
            self._look()

    def _look(self) -> None:
        """Take up what the registry wants, and tell everybody what is served."""
        try:
            self.shelf.refresh()
            tell = (self.shelf.serves(), self.shelf.refuses())
            if tell != self._told:
                self.db.write(workers.note_models, self.id, *tell)
                self._told = tell
                self.bell.ring()  # jobs may have waited for it
        except errors.DatabaseUnavailable as error:
            log.warning("%s", error.detail)
        except Exception:
            log.exception("the registry could not be followed; what is served stays")

    def _live(self) -> None:
        """Renew the leases, show life, rescue what others lost; end the process if its work stands still."""
        while not self._closed.wait(min(self.settings.lease_seconds / 4, 5.0)):
            stuck = self.settings.stuck_seconds
            if self.drain.stands_still(min(stuck, STOP_SECONDS) if self.stopping else stuck):
                self._end(work.drop)  # the batch at hand may be why
            try:
                self.db.write(work.renew, self.drain.in_hand(), lease_seconds=self.settings.lease_seconds)
                self.db.read(schema.check)
                self._show_life()
                if rescue.sweep(self.db, max_attempts=self.settings.max_attempts):
                    self.bell.ring()
            except errors.DatabaseUnavailable as error:
                self._moved_at = time.monotonic()  # nobody gets on without it
                log.warning("%s", error.detail)
            except Exception:
                log.exception("this worker shows no life for a moment")

    def _show_life(self) -> None:
        """Note what was done since the last time; end the process if that is nothing for long, and there is work."""
        done, now = self.drain.take_count(), time.monotonic()
        waits = bool(self.drain.in_hand()) or self.db.read(work.waits, self.shelf.names(), self.drain.readable())
        moves = bool(done) or self.decoders.moved_at > self._moved_at or not waits
        self.db.write(workers.show_life, self.id, done, moves=moves, batch_sizes=self.drain.batch_sizes())
        if moves or self.stopping:
            self._moved_at = now
        elif now - self._moved_at > self.settings.stuck_seconds:
            self._end(work.release)

    def _end(self, give_up: Callable[[sa.Connection, Sequence[work.Claim]], int]) -> None:
        """End this process, whatever it hangs in; what it has in hand is given to others at once."""
        log.critical("no progress for %s s: this worker ends itself", self.settings.stuck_seconds)
        last_words = threading.Thread(target=self.db.write, args=(give_up, self.drain.in_hand()), daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_SECONDS)
        os._exit(STUCK_EXIT)

    def _ring(self) -> None:
        """Work without a bell, whenever there was none for a while."""
        pause = self.settings.idle_ring_seconds
        while not self._stop.wait(pause):
            if time.monotonic() - self.drain.ended_at >= pause:
                try:
                    self.drain.run()
                except Exception:
                    log.exception("a run broke down; the next one is soon")
