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
CHUNK = 8  # pictures that a child is handed at once
START_SECONDS = 60.0
LOOKS = 8  # how often, in the time that one picture may take, its decoder is looked after
MOST_REPLY_BYTES = 65_536
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


@dataclass
class _Batch:
    """What the threads of one `decode` share; each writes rows of its own."""

    store: blobs.Blobs
    sha256s: Sequence[str]
    readers: Sequence[Reader | None]
    pixels: npt.NDArray[np.uint8]
    moved_at: float
    outcomes: list[Outcome | None] = field(init=False)
    suspects: set[int] = field(default_factory=set)
    """Rows at which a child has died once."""

    def __post_init__(self) -> None:
        self.outcomes = [None] * len(self.sha256s)

    def path(self, row: int) -> str | None:
        """The file that a child can read by itself; None where there is none."""
        path = self.store.path(self.sha256s[row]) if self.readers[row] is None else None
        return None if path is None else str(path)

    def read(self, row: int) -> bytes:
        """The bytes of what is no file."""
        reader = self.readers[row]
        return self.store.get(self.sha256s[row]) if reader is None else reader()


class Decoders:
    """A pool of children. Not to be used from two threads at once."""

    def __init__(self, count: int, how: preprocess.Preprocess, store: blobs.Blobs, limits: Limits) -> None:
        self._how = how
        self._store = store
        self._children = [_Decoder(how, limits) for _ in range(count)]
        self._threads = futures.ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._batch: _Batch | None = None

    @property
    def moved_at(self) -> float:
        """When a picture was last decoded or refused, by the monotonic clock."""
        return self._batch.moved_at if self._batch is not None else 0.0

    def follow(self, how: preprocess.Preprocess) -> None:
        """Decode for another network from now on."""
        self._how = how
        for child in self._children:
            child.follow(how)

    def decode(
        self,
        sha256s: Sequence[str],
        stop: threading.Event | None = None,
        readers: Sequence[Reader | None] | None = None,
    ) -> tuple[npt.NDArray[np.uint8], list[Outcome | None]]:
        """Pixels, uint8 [N, height, width, 3], and how it went, for each picture; the rows of failed ones are zero.

        Args:
            sha256s: which pictures.
            stop: once it is set no further picture is begun; the outcome of those left is None.
            readers: what reads the bytes of each picture, with the errors of `Blobs.get`; None for the store.

        Raises:
            errors.Unavailable: the store of pictures, or a reader's, does not answer.
        """
        pixels = np.zeros((len(sha256s), self._how.height, self._how.width, 3), np.uint8)
        readers = [None] * len(sha256s) if readers is None else readers
        self._batch = batch = _Batch(self._store, sha256s, readers, pixels, self.moved_at)
        todo: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        # Smaller chunks where there are few pictures, so that every core has some.
        size = max(1, min(CHUNK, len(sha256s) // len(self._children)))
        for start in range(0, len(sha256s), size):
            todo.put(list(range(start, min(start + size, len(sha256s)))))
        stop = stop or threading.Event()
        work = [self._threads.submit(child.work, todo, batch, stop) for child in self._children]
        for done in futures.wait(work).done:
            done.result()
        return batch.pixels, batch.outcomes

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
        self._start()

    def follow(self, how: preprocess.Preprocess) -> None:
        """Decode for another network; one whose pictures are larger than the shared memory needs a new child."""
        self._how = how
        if self._memory is not None and len(self._memory) < decoder.HEAD_BYTES + CHUNK * decoder.slot_bytes(how):
            self._replace()

    def work(self, todo: "queue.SimpleQueue[list[int]]", batch: "_Batch", stop: threading.Event) -> None:
        """Take chunks of rows until none is left."""
        while not stop.is_set():
            try:
                rows = todo.get_nowait()
            except queue.Empty:
                return
            while rows and not stop.is_set():
                rows = self._chunk(rows, batch)

    def _chunk(self, rows: list[int], batch: "_Batch") -> list[int]:
        """Decode rows of a batch; returns those that are left: the child died, or some must go alone."""
        now = self._together(rows, batch)
        try:
            self._order(now, batch)
            self._take(now, batch)
        except errors.Unavailable:
            self._replace()  # what it would still answer is not asked for any more
            raise
        except errors.BlobMissing as missing:
            batch.outcomes[now[0]] = Outcome(errors.BadPicture(missing.code, missing.detail), 0.0)
        except (EOFError, OSError) as broken:
            culprit = now[min(self._done(), len(now) - 1)]
            batch.outcomes[culprit] = self._bury(culprit, batch, hung=isinstance(broken, TimeoutError))
        return [row for row in rows if batch.outcomes[row] is None]

    def _together(self, rows: list[int], batch: "_Batch") -> list[int]:
        """The first of these rows that the child can be handed at once: by path, and none that it has died of."""
        for count, row in enumerate(rows):
            if row in batch.suspects or batch.path(row) is None:
                return rows[: max(1, count)]
        return rows

    def _order(self, rows: list[int], batch: "_Batch") -> None:
        if not self._ready:
            self._greet()
        paths = [batch.path(row) for row in rows]
        data = batch.read(rows[0]) if paths[0] is None else None
        orders = [{"sha256": batch.sha256s[row], "path": path} for row, path in zip(rows, paths, strict=True)]
        self._progress()[0] = 0
        self._pipe.send_bytes(json.dumps({"preprocess": self._how.to_json(), "pictures": orders}).encode())
        if data is not None:
            self._pipe.send_bytes(data)

    def _greet(self) -> None:
        """Wait until the child is up: its start is on nobody's account."""
        try:
            self._ready = self._pipe.poll(START_SECONDS) and self._pipe.recv_bytes(16) == decoder.READY
        except (EOFError, OSError):
            self._ready = False
        if not self._ready:
            raise errors.Unavailable("A decoder process does not start; its own words are above.")

    def _take(self, rows: list[int], batch: "_Batch") -> None:
        """Take the answer to an order; TimeoutError if one of its pictures takes too long."""
        done, since = 0, time.monotonic()
        while not self._pipe.poll(self._limits.seconds / LOOKS):
            if self._done() > done:
                done, since = self._done(), time.monotonic()
                batch.moved_at = since
            elif time.monotonic() - since >= self._limits.seconds:
                raise TimeoutError
        replies = json.loads(self._pipe.recv_bytes(MOST_REPLY_BYTES))
        batch.moved_at = time.monotonic()
        if lost := next((reply["detail"] for reply in replies if reply["code"] == decoder.UNAVAILABLE), None):
            raise errors.BlobsUnavailable(lost)
        assert self._memory is not None  # noqa: S101 (for the type checker)
        slots = decoder.slots(self._memory, self._how)
        for slot, (row, reply) in enumerate(zip(rows, replies, strict=True)):
            error = errors.BadPicture(reply["code"], reply["detail"]) if reply["code"] else None
            if error is None:
                batch.pixels[row] = slots[slot]
            batch.outcomes[row] = Outcome(error, float(reply["ms"]))

    def _done(self) -> int:
        """How many pictures of the last order the child has got done."""
        return int(self._progress()[0])

    def _progress(self) -> npt.NDArray[np.uint32]:
        assert self._memory is not None  # noqa: S101 (for the type checker)
        return decoder.progress(self._memory)

    def _bury(self, row: int, batch: "_Batch", *, hung: bool) -> Outcome | None:
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
        os.truncate(arena, decoder.HEAD_BYTES + CHUNK * decoder.slot_bytes(self._how))
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
