"""The watch: everybody who waits for a job waits here, and one reader looks at the database for them all.

It looks when a notice says that a job has changed, and now and then in any case: notices may be lost. Waiting holds no
thread; it is a coroutine of the front's own.
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

from jobs import database, errors, notices, outlook
from jobs.store import jobs, keys, results

SURE_SECONDS = 1.0  # between two looks while notices are heard
UNSURE_SECONDS = 0.2  # and while they are not
KEYS_SECONDS = 10.0  # between two looks whether the keys of those who wait are still good
REMEMBERED_SECONDS = 1.0  # for so long at least it is known of which jobs was told
MOST_RESULTS = 100  # of a job that is answered together with its results

log = logging.getLogger(__name__)


class Watch:
    """Who waits for which job, and what each job was like when it was last looked at."""

    def __init__(self, db: database.Database, told: notices.Notices, sight: outlook.Outlook) -> None:
        self._db = db
        self.outlook = sight
        self._notices = told
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._keys: defaultdict[str, int] = defaultdict(int)
        self._rows: dict[str, Any] = {}
        self._reader = futures.ThreadPoolExecutor(1, "watch")
        self._tasks: list[asyncio.Task[None]] = []
        self._hears = False
        self._due: set[str] = set()
        self._told: tuple[set[str], set[str]] = set(), set()
        self._told_since = 0.0
        self._asked: dict[str, Any] = {}
        self._answers: asyncio.Future[Mapping[str, Sequence[Any]]]
        self._ended: set[str] = set()
        self.streams: Counter[str] = Counter()
        """How many streams of events are open, by the ids of their keys."""

    async def rows(self, job_id: str, key_id: str | None = None, known: Any = None) -> AsyncGenerator[Any]:
        """The job as it is now, and again whenever it has changed; ends when it is gone, or its watcher's key is.

        `known` is the job as its watcher has just seen it: it is not looked at before something is told of it.
        """
        with self._subscribed(job_id, key_id, known) as moved:
            seen = None
            while key_id not in self._ended:
                row = self._rows.get(job_id)
                if row is not None and row != seen:
                    seen = row
                    yield row
                    continue
                if row is None and seen is not None:
                    return
                moved.clear()
                await moved.wait()

    @contextlib.contextmanager
    def _subscribed(self, job_id: str, key_id: str | None, known: Any) -> Iterator[asyncio.Event]:
        moved = asyncio.Event()
        self._waiting[job_id].add(moved)
        if key_id is not None:
            self._keys[key_id] += 1
        self._start()
        if known is not None:
            self._rows.setdefault(job_id, known)
        # What was told before anybody waited for it must not be missed.
        if known is None or not self._hears or any(job_id in told for told in self._told):
            self._look_at({job_id})
        try:
            yield moved
        finally:
            self._waiting[job_id].discard(moved)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._rows.pop(job_id, None)
            if key_id is not None:
                self._keys[key_id] -= 1
                if not self._keys[key_id]:
                    del self._keys[key_id]
                    self._ended.discard(key_id)

    async def results(self, row: Any) -> Sequence[Any]:
        """The first results of a job; all who ask at the same time are answered together."""
        if not self._asked:
            self._answers = asyncio.ensure_future(self._results())
        self._asked[row.id] = row
        return (await asyncio.shield(self._answers))[row.id]

    async def _results(self) -> Mapping[str, Sequence[Any]]:
        await asyncio.sleep(0)  # whoever was woken with the first asks now
        asked, self._asked = self._asked, {}
        read = asyncio.get_running_loop().run_in_executor
        return await read(self._reader, lambda: self._db.read(results.first, asked.values(), limit=MOST_RESULTS))

    def _start(self) -> None:
        """Begin to look and to listen; nothing runs before somebody waits."""
        if not self._tasks or self._tasks[0].done():
            self._stir = asyncio.Event()
            self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._listen())]

    async def _look(self) -> None:
        looked_at_keys = looked_at_all = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                pause = SURE_SECONDS if self._hears else UNSURE_SECONDS
                async with asyncio.timeout(max(0.0, looked_at_all + pause - time.monotonic())):
                    await self._stir.wait()
            self._stir.clear()
            if not self._waiting:
                await self._stir.wait()
                continue
            if time.monotonic() - looked_at_all >= pause:  # however much is told of others: a notice may be lost
                looked_at_all = time.monotonic()
                self._due.update(self._waiting)
            due, self._due = self._due & self._waiting.keys(), set()
            try:
                await self._refresh(list(due))
                if time.monotonic() - looked_at_keys > KEYS_SECONDS:
                    looked_at_keys = time.monotonic()
                    await self._look_at_keys(list(self._keys))
            except errors.Unavailable as error:
                log.warning("%s", error.detail)
                await asyncio.sleep(SURE_SECONDS)

    async def _refresh(self, job_ids: list[str]) -> None:
        """Read all these jobs at once, and wake those who wait for one that has changed."""
        read = asyncio.get_running_loop().run_in_executor
        rows = await read(self._reader, lambda: self._db.read(jobs.states, job_ids))
        for job_id in job_ids:
            row = rows.get(job_id)
            if job_id in self._waiting and row != self._rows.get(job_id):
                self._rows[job_id] = row
                self._wake(job_id)

    async def _look_at_keys(self, key_ids: list[str]) -> None:
        read = asyncio.get_running_loop().run_in_executor
        good = await read(self._reader, lambda: self._db.read(keys.good, key_ids))
        self._ended |= set(key_ids) - good
        if self._ended:
            for job_id in list(self._waiting):
                self._wake(job_id)

    def _look_at(self, job_ids: set[str]) -> None:
        self._due |= job_ids
        if job_ids:
            self._stir.set()

    def _remember(self, job_ids: set[str]) -> None:
        """Keep for a moment of which jobs was told: some may be waited for only now."""
        before, lately = self._told
        if time.monotonic() - self._told_since > REMEMBERED_SECONDS:
            before, lately, self._told_since = lately, set(), time.monotonic()
        lately |= job_ids
        self._told = before, lately

    def _wake(self, job_id: str) -> None:
        for moved in self._waiting.get(job_id, ()):
            moved.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._notices.heard() as heard:
                    self._hears = True
                    async for job_ids in heard:
                        self._remember(job_ids)
                        self._look_at(job_ids & self._waiting.keys())
            except (redis.RedisError, OSError) as error:
                log.debug("notices are not heard: %s", error)
            self._hears = False
            await asyncio.sleep(notices.BREAK_SECONDS)
