"""Polling loop: claim due tasks, run them in a thread pool, repeat until stopped."""

import abc
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

import sqlalchemy as sa

from core import errors
from core.db import database, revision

Task = TypeVar("Task")

POLL_SECONDS = 1.0  # between two polls that found nothing

log = logging.getLogger(__name__)


class PollingLoop(abc.ABC, Generic[Task]):
    """A loop over one kind of task, with a thread pool of its own; several processes share the work."""

    def __init__(
        self, name: str, concurrency: int, db: database.Database, has_due: Callable[[sa.Connection], bool]
    ) -> None:
        self._name = name
        self._concurrency = concurrency
        self._db = db
        self._has_due = has_due
        self._executor = futures.ThreadPoolExecutor(concurrency, name)
        self._in_flight: dict[futures.Future[None], tuple[str, Task]] = {}
        """The running tasks, each with its owner."""
        self._stopping = False

    @abc.abstractmethod
    def _claim(self, conn: sa.Connection, limit: int) -> Sequence[tuple[str, Task]]:
        """Claim up to `limit` due tasks, each with its owner."""

    @abc.abstractmethod
    def _run_task(self, task: Task) -> None:
        """Run one task, in a thread of the pool. A task that raises is due again when its lease ends."""

    @abc.abstractmethod
    def _describe(self, task: Task) -> str:
        """Return a phrase for a task in the log."""

    def poll(self) -> int:
        """Claim as many due tasks as there are free threads, and start them. Return their number.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or its schema is of another version.
        """
        self._in_flight = {future: item for future, item in self._in_flight.items() if not future.done()}
        free_slots = self._concurrency - len(self._in_flight)
        if not free_slots or not self._db.read(self._has_due):
            return 0
        claimed = self._db.write(self._claim_checked, free_slots)
        for owner, task in claimed:
            self._in_flight[self._executor.submit(self._run_logged, task)] = (owner, task)
        return len(claimed)

    def _count_in_flight(self) -> Counter[str]:
        """Count the running tasks of each owner."""
        return Counter(owner for owner, _ in self._in_flight.values())

    def _claim_checked(self, conn: sa.Connection, limit: int) -> Sequence[tuple[str, Task]]:
        revision.check(conn)
        return self._claim(conn, limit)

    def _run_logged(self, task: Task) -> None:
        try:
            self._run_task(task)
        except errors.ServiceUnavailable as error:
            log.warning("%s is repeated when its lease ends: %s", self._describe(task), error.detail)
        except Exception:
            log.exception("%s failed; it is repeated when its lease ends", self._describe(task))

    def stop(self) -> None:
        """Start no more tasks; may be called by a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Poll until stopped, then wait for the running tasks."""
        while not self._stopping:
            claimed_count = 0
            try:
                claimed_count = self.poll()
            except errors.DatabaseUnavailable as error:
                log.warning("%s", error.detail)
            except Exception:
                log.exception("polling for %s failed; the next poll follows in %g s", self._name, POLL_SECONDS)
            if not claimed_count:
                self._wait()
        self.finish()

    def finish(self) -> None:
        """Wait for the running tasks."""
        futures.wait(self._in_flight)

    def _wait(self) -> None:
        """Wait until a thread is free, at most for the poll interval."""
        if self._in_flight:
            futures.wait(self._in_flight, POLL_SECONDS, futures.FIRST_COMPLETED)
            return
        deadline = time.monotonic() + POLL_SECONDS
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
