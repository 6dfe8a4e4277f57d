"""Job watcher: one reader polls the database for all long polls and event streams of the process.

It reads a job when an event says that it has changed, and periodically in any case, because events may be lost. Of a
single image that has finished the event has the result, and nothing is read. Waiting takes a coroutine, not a thread.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import redis

from api.services import finished_single
from core import errors
from core.broker import job_events, redis_clients
from core.db import database
from core.db.queries import api_keys, installation, jobs, results
from core.intake.eta_cache import EtaCache

SUBSCRIBED_POLL_SECONDS = 1.0  # between two polls while events are received
UNSUBSCRIBED_POLL_SECONDS = 0.2  # and while Redis is down
KEY_CHECK_SECONDS = 10.0  # between two checks whether the keys of open streams are still valid
RECENT_SECONDS = 1.0  # how long, at least, the jobs of past events are remembered
MAX_RESULTS = 100  # in a response to `Prefer: wait`

log = logging.getLogger(__name__)


class JobWatcher:
    """Wait for changes of jobs, with one reader of the database for all waiters of an event loop."""

    def __init__(self, db: database.Database, events: job_events.JobEvents, eta_cache: EtaCache) -> None:
        self._db = db
        self.eta_cache = eta_cache
        self._job_events = events
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._waiters_by_key: defaultdict[str, int] = defaultdict(int)
        self._rows: dict[str, Any] = {}
        self._executor = futures.ThreadPoolExecutor(1, "watch")
        self._tasks: list[asyncio.Task[None]] = []
        self._is_subscribed = False
        self._dirty: set[str] = set()
        self._recent: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        self._recent_since = 0.0
        self._pending_results: dict[str, Any] = {}
        self._results_future: asyncio.Future[Mapping[str, Sequence[Any]]]
        self._invalid_keys: set[str] = set()
        self.streams: Counter[str] = Counter()
        """The number of open event streams, by key id."""
        self.waits: Counter[str] = Counter()
        """The number of long polls, by key id."""

    async def changes(self, job_id: str, key_id: str | None = None, known_row: Any = None) -> AsyncGenerator[Any]:
        """Yield the job as it is now, and whenever it has changed; end when it or the key has become invalid.

        `known_row` is the job as the caller has just read it: it is not read again before an event.

        Raises:
            errors.JobPurged: the job was deleted, or its results were removed.
        """
        with self._register_waiter(job_id, key_id, known_row) as changed:
            previous = None
            while key_id not in self._invalid_keys:
                row = self._rows.get(job_id)
                if row is not None and row.purged_at is not None:
                    raise errors.JobPurged.with_totals(row.total, row.bytes, row.purged_at)
                if row is not None and row != previous:
                    previous = row
                    yield row
                    continue
                if row is None and previous is not None:
                    return
                changed.clear()
                await changed.wait()

    @contextlib.contextmanager
    def _register_waiter(self, job_id: str, key_id: str | None, known_row: Any) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        is_first = not self._waiters
        self._waiters[job_id].add(changed)
        if key_id is not None:
            self._waiters_by_key[key_id] += 1
        self._start_tasks()
        if is_first:  # the poll loop waits for it
            self._wakeup.set()
        if known_row is not None:
            self._rows.setdefault(job_id, known_row)
        # An event between the caller's read and this registration must not be missed.
        events = [changes[job_id] for changes in self._recent if job_id in changes]
        if known_row is None or not self._is_subscribed:
            self._mark_dirty({job_id})
        elif events:
            self._apply_changes({job_id: events[-1]})
        try:
            yield changed
        finally:
            self._waiters[job_id].discard(changed)
            if not self._waiters[job_id]:
                del self._waiters[job_id]
                self._rows.pop(job_id, None)
            if key_id is not None:
                self._waiters_by_key[key_id] -= 1
                if not self._waiters_by_key[key_id]:
                    del self._waiters_by_key[key_id]
                    self._invalid_keys.discard(key_id)

    async def results(self, row: Any) -> Sequence[Any]:
        """Return the first results of a job; concurrent calls share one query.

        Raises:
            errors.DatabaseUnavailable: the database does not answer.
        """
        if isinstance(row, finished_single.FinishedJob):
            return [row.result]
        if not self._pending_results:
            self._results_future = asyncio.ensure_future(self._read_results())
        self._pending_results[row.id] = row
        return (await asyncio.shield(self._results_future))[row.id]

    async def _read_results(self) -> Mapping[str, Sequence[Any]]:
        await asyncio.sleep(0)  # lets the others that the same change woke join this query
        pending, self._pending_results = self._pending_results, {}
        run_in_executor = asyncio.get_running_loop().run_in_executor
        return await run_in_executor(
            self._executor, lambda: self._db.read(results.first_per_job, pending.values(), limit=MAX_RESULTS)
        )

    def _start_tasks(self) -> None:
        """Start polling and listening, at the first waiter."""
        if not self._tasks or self._tasks[0].done():
            self._wakeup = asyncio.Event()
            self._tasks = [asyncio.create_task(self._poll_loop()), asyncio.create_task(self._subscribe_loop())]

    async def _poll_loop(self) -> None:
        keys_checked_at = polled_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                interval = SUBSCRIBED_POLL_SECONDS if self._is_subscribed else UNSUBSCRIBED_POLL_SECONDS
                async with asyncio.timeout(max(0.0, polled_at + interval - time.monotonic())):
                    await self._wakeup.wait()
            self._wakeup.clear()
            if not self._waiters:
                await self._wakeup.wait()
                keys_checked_at = polled_at = time.monotonic()  # the caller has just read the job and its key
                continue
            if time.monotonic() - polled_at >= interval:  # also under many events of other jobs: an event may be lost
                polled_at = time.monotonic()
                self._dirty.update(self._waiters)
            dirty, self._dirty = self._dirty & self._waiters.keys(), set()
            try:
                if dirty:
                    await self._refresh(list(dirty))
                if time.monotonic() - keys_checked_at > KEY_CHECK_SECONDS:
                    keys_checked_at = time.monotonic()
                    await self._check_keys(list(self._waiters_by_key))
            except errors.ServiceUnavailable as error:
                log.warning("%s", error.detail)
                await asyncio.sleep(SUBSCRIBED_POLL_SECONDS)
            except Exception:
                log.exception("jobs could not be read; their waiters go on waiting")
                await asyncio.sleep(SUBSCRIBED_POLL_SECONDS)

    async def _refresh(self, job_ids: list[str]) -> None:
        """Read these jobs in one query, and notify the waiters of those that have changed."""
        run_in_executor = asyncio.get_running_loop().run_in_executor
        rows = await run_in_executor(self._executor, lambda: self._db.read(jobs.get_many, job_ids))
        for job_id in job_ids:
            row = rows.get(job_id)
            if job_id in self._waiters and row != self._rows.get(job_id):
                self._rows[job_id] = row
                self._notify(job_id)

    async def _check_keys(self, key_ids: list[str]) -> None:
        run_in_executor = asyncio.get_running_loop().run_in_executor
        valid = await run_in_executor(self._executor, lambda: self._db.read(api_keys.valid_ids, key_ids))
        self._invalid_keys |= set(key_ids) - valid
        if self._invalid_keys:
            for job_id in list(self._waiters):
                self._notify(job_id)

    def _mark_dirty(self, job_ids: set[str]) -> None:
        self._dirty |= job_ids
        if job_ids:
            self._wakeup.set()

    def _apply_changes(self, changes: job_events.Changes) -> None:
        """Use the results that came with an event; mark its other jobs that have waiters to be read."""
        dirty = set()
        for job_id in changes.keys() & self._waiters.keys():
            row, notice = self._rows.get(job_id), changes[job_id]
            if notice is not None and row is not None and row.total == 1:
                self._rows[job_id] = finished_single.FinishedJob(row, notice)
                self._notify(job_id)
            else:
                dirty.add(job_id)
        self._mark_dirty(dirty)

    def _remember_recent(self, changes: job_events.Changes) -> None:
        """Remember the jobs of an event for a moment: a waiter may register just after it."""
        previous, recent = self._recent
        if time.monotonic() - self._recent_since > RECENT_SECONDS:
            previous, recent, self._recent_since = recent, {}, time.monotonic()
        recent |= changes
        self._recent = previous, recent

    def _notify(self, job_id: str) -> None:
        for changed in self._waiters.get(job_id, ()):
            changed.set()

    async def _read_notice_key(self) -> bytes:
        """Read the key that notices are signed with; empty while the database does not answer."""
        run_in_executor = asyncio.get_running_loop().run_in_executor
        try:
            id_ = await run_in_executor(self._executor, lambda: self._db.write(installation.get_or_create_id))
        except errors.DatabaseUnavailable:
            return b""
        return id_.encode()

    async def _subscribe_loop(self) -> None:
        key = b""
        while True:
            try:
                key = key or await self._read_notice_key()
                async with self._job_events.subscribe(key) as messages:
                    self._is_subscribed = True
                    async for changes in messages:
                        self._remember_recent(changes)
                        self._apply_changes(changes)
            except (redis.RedisError, OSError) as error:
                log.debug("job events are not received: %s", error)
            self._is_subscribed = False
            await asyncio.sleep(redis_clients.BACKOFF_SECONDS)
