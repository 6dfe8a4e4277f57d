"""Dead workers: end the leases of workers in this PID namespace whose processes are dead (decision 45)."""

import logging
from datetime import datetime

from core.db import database
from core.db.queries import expired_leases, workers
from worker import pid_namespace

log = logging.getLogger(__name__)


class DeadWorkers:
    """The workers of one PID namespace, as of the last list; used by one thread."""

    def __init__(self, db: database.Database, namespace: str | None) -> None:
        """Watch no workers if `namespace` is None."""
        self._db = db
        self._namespace = namespace
        self._live_pids: set[int] = set()
        self._last_heartbeats: dict[str, datetime] = {}
        """Of each worker whose process is dead, as it was when that was first seen."""

    def poll(self) -> bool:
        """Return whether a process of the last list has died since; each is reported once."""
        dead_pids = set(filter(pid_namespace.is_dead, self._live_pids))
        self._live_pids -= dead_pids
        return bool(dead_pids)

    def end_leases(self) -> None:
        """List the workers, and end the leases of the dead ones; to be repeated.

        The database may still execute a claim of a process that has died meanwhile.

        Raises:
            errors.DatabaseUnavailable: the database does not answer.
        """
        if self._namespace is None:
            return
        rows = self._db.read(workers.list_namespace, self._namespace)
        dead_rows = [row for row in rows if pid_namespace.is_dead(row.pid)]
        self._live_pids = {row.pid for row in rows if row not in dead_rows}
        self._last_heartbeats = {row.id: self._last_heartbeats.get(row.id, row.heartbeat_at) for row in dead_rows}
        # A clone of this virtual machine may have the same names: its workers have other processes, and heartbeats.
        dead = [row.id for row in dead_rows if row.heartbeat_at == self._last_heartbeats[row.id]]
        if dead and (count := self._db.write(expired_leases.end, dead)):
            log.warning("%d images were claimed by workers that have died: %s", count, ", ".join(dead))
