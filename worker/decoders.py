"""The decoders: one child process for each core, replaced when it dies, each death on one picture's account."""

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs import blobs, errors
from model import preprocess
from worker import decoder

log = logging.getLogger(__name__)
CHUNK = 8  # pictures that a child is handed at once, at least, while all children are at work
MOST = 32  # and at most
ARENA_BYTES = 8_000_000  # that the pixels of one order may take, so that larger pictures go in smaller orders
START_SECONDS = 60.0
LOOKS = 8  # how often, in the time that one picture may take, its decoder is looked after
MOST_REPLY_BYTES = 262_144
Reader = Callable[[], bytes]
PATH = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]


@dataclass(frozen=True)
class Limits:
    """What one picture may cost."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What decoding one picture gave: pixels in its row of the batch, or an error."""

    error: errors.BadPicture | None
    ms: float


Decoded = tuple[npt.NDArray[np.uint8], list[Outcome | None]]
"""Pixels, uint8 [N, height, width, 3], and how it went, for each picture; the rows of failed ones are zero."""


def most_at_once(how: preprocess.Preprocess) -> int:
    """How many pictures an order may hold."""
    return max(CHUNK, min(MOST, ARENA_BYTES // decoder.slot_bytes(how)))


@dataclass
class _Batch:
    """What the orders of one batch share; each writes rows of its own."""

    store: blobs.Blobs
    how: preprocess.Preprocess
    sha256s: Sequence[str]
    readers: Sequence[Reader | None]
    stop: threading.Event
    decoded: futures.Future[Decoded] = field(default_factory=futures.Future)
    error: BaseException | None = None
    orders: int = 0
    """How many of them have not come back."""
    suspects: set[int] = field(default_factory=set)
    """Rows at which a child has died once."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.pixels = np.zeros((len(self.sha256s), self.how.height, self.how.width, 3), np.uint8)
        self.outcomes: list[Outcome | None] = [None] * len(self.sha256s)
        self.paths = [self._path(row) for row in range(len(self.sha256s))]
        """The files that a child can read by itself; None where there is none."""

    @property
    def is_over(self) -> bool:
        """Whether no further picture is to be begun."""
        return self.error is not None or self.stop.is_set()

    def read(self, row: int) -> bytes:
        """The bytes of what is no file."""
        reader = self.readers[row]
        return self.store.get(self.sha256s[row]) if reader is None else reader()

    def came_back(self, error: BaseException | None = None) -> None:
        """An order is done, or given up; after the last one, so is the batch."""
        with self.lock:
            self.error = self.error or error
            self.orders -= 1
            is_last = self.orders <= 0
        if is_last and self.error is not None:
            self.decoded.set_exception(self.error)
        elif is_last:
            self.decoded.set_result((self.pixels, self.outcomes))

    def _path(self, row: int) -> str | None:
        path = self.store.path(self.sha256s[row]) if self.readers[row] is None else None
        return None if path is None else str(path)


class Decoders:
    """A pool of children, and one line of orders for them: no child waits for the others to end a batch."""

    def __init__(self, count: int, how: preprocess.Preprocess, store: blobs.Blobs, limits: Limits) -> None:
        self._how = how
        self._store = store
        self._children = [_Decoder(how, limits) for _ in range(count)]
        self._free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        for child in self._children:
            self._free.put(child)
        self._threads = futures.ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._under_way: set[futures.Future[None]] = set()

    @property
    def moved_at(self) -> float:
        """When a picture was last decoded or refused, by the monotonic clock."""
        return max(child.moved_at for child in self._children)

    @property
    def at_once(self) -> int:
        """How many pictures keep all children at work."""
        return CHUNK * len(self._children)

    def follow(self, how: preprocess.Preprocess) -> None:
        """Decode for another network from now on."""
        self._how = how

    def decode(
        self,
        sha256s: Sequence[str],
        stop: threading.Event | None = None,
        readers: Sequence[Reader | None] | None = None,
    ) -> Decoded:
        """Decode a batch for the network that is followed, and wait for it; see `begin`."""
        return self.begin(sha256s, self._how, stop, readers).result()

    def begin(
        self,
        sha256s: Sequence[str],
        how: preprocess.Preprocess,
        stop: threading.Event | None = None,
        readers: Sequence[Reader | None] | None = None,
    ) -> futures.Future[Decoded]:
        """Put a batch in line, behind those that were begun before.

        Args:
            sha256s: which pictures.
            how: what the network that they are for expects.
            stop: once it is set no further picture is begun; the outcome of those left is None.
            readers: what reads the bytes of each picture, with the errors of `Blobs.get`; None for the store.

        Returns:
            what becomes of them. It raises errors.Unavailable if the store of pictures, or a reader's, does not answer.
        """
        readers = [None] * len(sha256s) if readers is None else readers
        batch = _Batch(self._store, how, sha256s, readers, stop or threading.Event())
        size = self._size(len(sha256s), how)
        orders = [range(start, min(start + size, len(sha256s))) for start in range(0, len(sha256s), size)]
        batch.orders = len(orders)
        if not orders:
            batch.came_back()
        for rows in orders:
            order = self._threads.submit(self._carry_out, list(rows), batch)
            self._under_way.add(order)
            order.add_done_callback(self._under_way.discard)
        return batch.decoded

    def _size(self, count: int, how: preprocess.Preprocess) -> int:
        """How many pictures an order of a batch holds: every child has some, and none too few for the trouble."""
        even = count // len(self._children)
        waits = len(self._under_way) >= len(self._children)
        return max(CHUNK if waits else 1, min(even, most_at_once(how)))

    def _carry_out(self, rows: list[int], batch: _Batch) -> None:
        error: BaseException | None = None
        child = self._free.get()
        try:
            child.work(rows, batch)
        except BaseException as caught:  # noqa: BLE001 (it is the batch's, and raised by whoever waits for it)
            error = caught
        finally:
            self._free.put(child)
            batch.came_back(error)

    def pids(self) -> list[int]:
        """The process ids of the children that run."""
        return [child.process.pid for child in self._children if child.process is not None]

    def close(self) -> None:
        """End the children."""
        self._threads.shutdown()
        for child in self._children:
            child.end()


class _Decoder:
    """One child and the conversation with it."""

    def __init__(self, how: preprocess.Preprocess, limits: Limits) -> None:
        self._how = how
        self._limits = limits
        self.process: subprocess.Popen[bytes] | None = None
        self._pipe: Any = None
        self._memory: npt.NDArray[np.uint8] | None = None
        self._ready = False
        self.moved_at = 0.0
        """When it last got a picture done, by the monotonic clock."""
        self._start()

    def work(self, rows: list[int], batch: _Batch) -> None:
        """Decode rows of a batch, all but those that are left when it is over."""
        while rows and not batch.is_over:
            rows = self._chunk(rows, batch)

    def _chunk(self, rows: list[int], batch: _Batch) -> list[int]:
        """Decode rows of a batch; returns those that are left: the child died, or some must go alone."""
        now = self._together(rows, batch)
        try:
            self._order(now, batch)
            self._take(now, batch)
        except errors.BlobMissing as missing:
            batch.outcomes[now[0]] = Outcome(errors.BadPicture(missing.code, missing.detail), 0.0)
        except (EOFError, OSError) as broken:
            culprit = now[min(self._done(), len(now) - 1)]
            batch.outcomes[culprit] = self._bury(culprit, batch, hung=isinstance(broken, TimeoutError))
        except Exception:
            self._replace()  # what it would still answer is not asked for any more
            raise
        return [row for row in rows if batch.outcomes[row] is None]

    def _together(self, rows: list[int], batch: _Batch) -> list[int]:
        """The first of these rows that the child can be handed at once: by path, and none that it has died of."""
        for count, row in enumerate(rows):
            if row in batch.suspects or batch.paths[row] is None:
                return rows[: max(1, count)]
        return rows

    def _order(self, rows: list[int], batch: _Batch) -> None:
        self._follow(batch.how)
        if not self._ready:
            self._greet()
        paths = [batch.paths[row] for row in rows]
        data = batch.read(rows[0]) if paths[0] is None else None
        orders = [{"sha256": batch.sha256s[row], "path": path} for row, path in zip(rows, paths, strict=True)]
        self._progress()[0] = 0
        self._pipe.send_bytes(json.dumps({"preprocess": self._how.to_json(), "pictures": orders}).encode())
        if data is not None:
            self._pipe.send_bytes(data)

    def _follow(self, how: preprocess.Preprocess) -> None:
        """Decode for another network; one whose pictures are larger than the shared memory needs a new child."""
        self._how = how
        if self._memory is not None and len(self._memory) < _arena_bytes(how):
            self._replace()

    def _greet(self) -> None:
        """Wait until the child is up: its start is on nobody's account."""
        try:
            self._ready = self._pipe.poll(START_SECONDS) and self._pipe.recv_bytes(16) == decoder.READY
        except (EOFError, OSError):
            self._ready = False
        if not self._ready:
            raise errors.Unavailable("A decoder process does not start; its own words are above.")

    def _take(self, rows: list[int], batch: _Batch) -> None:
        """Take the answer to an order; TimeoutError if one of its pictures takes too long."""
        done, since = 0, time.monotonic()
        while not self._pipe.poll(self._limits.seconds / LOOKS):
            if self._done() > done:
                done, since = self._done(), time.monotonic()
                self.moved_at = since
            elif time.monotonic() - since >= self._limits.seconds:
                raise TimeoutError
        replies = json.loads(self._pipe.recv_bytes(MOST_REPLY_BYTES))
        self.moved_at = time.monotonic()
        if lost := next((reply["detail"] for reply in replies if reply["code"] == decoder.UNAVAILABLE), None):
            raise errors.BlobsUnavailable(lost)
        assert self._memory is not None  # noqa: S101 (for the type checker)
        slots = decoder.slots(self._memory, self._how)
        if rows[-1] - rows[0] == len(rows) - 1:  # one copy, during which other threads may run
            batch.pixels[rows[0] : rows[-1] + 1] = slots[: len(rows)]
        else:
            batch.pixels[rows] = slots[: len(rows)]
        for row, reply in zip(rows, replies, strict=True):
            error = errors.BadPicture(reply["code"], reply["detail"]) if reply["code"] else None
            if error is not None:
                batch.pixels[row] = 0
            batch.outcomes[row] = Outcome(error, float(reply["ms"]))

    def _done(self) -> int:
        """How many pictures of the last order the child has got done."""
        return int(self._progress()[0])

    def _progress(self) -> npt.NDArray[np.uint32]:
        assert self._memory is not None  # noqa: S101 (for the type checker)
        return decoder.progress(self._memory)

    def _bury(self, row: int, batch: _Batch, *, hung: bool) -> Outcome | None:
        """Replace a dead or hung child; what its last picture did to it, or None: that one gets another try, alone."""
        code = self._replace()
        if hung or code == -signal.SIGXCPU:
            log.warning("a picture took too long to decode; its decoder was replaced")
            return Outcome(errors.BadPicture("timed_out", "The picture takes too long to decode."), 0.0)
        log.warning("a decoder died (exit code %s) and was replaced", code)
        if row not in batch.suspects:
            batch.suspects.add(row)
            return None
        return Outcome(errors.BadPicture("crashed_decoder", "Decoding the picture crashes the decoder."), 0.0)

    def _replace(self) -> int:
        code = self.end()
        self._start()
        return code

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        arena = os.memfd_create("pixels")
        os.truncate(arena, _arena_bytes(self._how))
        config = {"parent": os.getpid(), "memory_bytes": self._limits.memory_bytes}
        command = [
            sys.executable,
            "-m",
            "worker.decoder",
            str(theirs.fileno()),
            str(arena),
            json.dumps(config),
        ]
        with theirs, os.fdopen(arena, "r+b") as memory:
            self.process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), arena),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # ctrl-C in a terminal is for its parent
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PATH)},
            )
            self._memory = np.memmap(memory, np.uint8, "r+")
        self._pipe = connection.Connection(ours.detach())
        self._ready = False

    def end(self) -> int:
        """End the child; returns its exit code."""
        assert self.process is not None  # noqa: S101 (for the type checker)
        self._pipe.close()
        deadline = time.monotonic() + 0.2  # one that is dying may tell of what
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        self.process.kill()
        return self.process.wait()


def _arena_bytes(how: preprocess.Preprocess) -> int:
    return decoder.HEAD_BYTES + most_at_once(how) * decoder.slot_bytes(how)
