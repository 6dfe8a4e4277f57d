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
from dataclasses import dataclass
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


class _Batch:
    """What the threads of one `decode` share; each writes rows of its own."""

    def __init__(
        self, sha256s: Sequence[str], readers: Sequence[Reader | None], pixels: npt.NDArray[np.uint8], moved_at: float
    ) -> None:
        self.sha256s = sha256s
        self.readers = readers
        self.pixels = pixels
        self.outcomes: list[Outcome | None] = [None] * len(sha256s)
        self.suspects: set[int] = set()
        """Rows at which a child has died once."""
        self.moved_at = moved_at


class Decoders:
    """A pool of children. Not to be used from two threads at once."""

    def __init__(self, count: int, how: preprocess.Preprocess, store: blobs.Blobs, limits: Limits) -> None:
        self._how = how
        self._children = [_Decoder(how, store, limits) for _ in range(count)]
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
        self._batch = batch = _Batch(sha256s, readers, pixels, self.moved_at)
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

    def __init__(self, how: preprocess.Preprocess, store: blobs.Blobs, limits: Limits) -> None:
        self._how = how
        self._store = store
        self._limits = limits
        self.process: subprocess.Popen[bytes] | None = None
        self._pipe: Any = None
        self._memory: npt.NDArray[np.uint8] | None = None
        self._ready = False
        self._start()

    def follow(self, how: preprocess.Preprocess) -> None:
        """Decode for another network; one whose pictures are larger than the shared memory needs a new child."""
        self._how = how
        if self._memory is not None and len(self._memory) < CHUNK * decoder.slot_bytes(how):
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
        """Decode rows of a batch; returns those that are left: the child died, or they come one by one."""
        paths = [self._store.path(batch.sha256s[row]) if batch.readers[row] is None else None for row in rows]
        now = rows if None not in paths and rows[0] not in batch.suspects else rows[:1]
        try:
            self._order([batch.sha256s[row] for row in now], paths, batch.readers[rows[0]])
            for slot, row in enumerate(now):
                self._take(slot, row, batch)
        except errors.Unavailable:
            self._replace()  # what it would still answer is not asked for any more
            raise
        except errors.BlobMissing as missing:
            batch.outcomes[now[0]] = Outcome(errors.BadPicture(missing.code, missing.detail), 0.0)
        except (EOFError, OSError) as broken:
            culprit = next(row for row in now if batch.outcomes[row] is None)
            batch.outcomes[culprit] = self._bury(culprit, batch, hung=isinstance(broken, TimeoutError))
        return [row for row in rows if batch.outcomes[row] is None]

    def _order(self, sha256s: Sequence[str], paths: Sequence[Path | None], reader: Reader | None) -> None:
        if not self._ready:
            self._greet()
        data = None
        if paths[0] is None:
            data = self._store.get(sha256s[0]) if reader is None else reader()
        orders = [{"sha256": s, "path": str(p) if p else None} for s, p in zip(sha256s, paths, strict=False)]
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

    def _take(self, slot: int, row: int, batch: "_Batch") -> None:
        assert self._memory is not None  # noqa: S101 (for the type checker)
        if not self._pipe.poll(self._limits.seconds):
            raise TimeoutError
        reply = json.loads(self._pipe.recv_bytes(65_536))
        if reply["code"] == decoder.UNAVAILABLE:
            raise errors.BlobsUnavailable(reply["detail"])
        error = errors.BadPicture(reply["code"], reply["detail"]) if reply["code"] else None
        if error is None:
            batch.pixels[row] = decoder.slots(self._memory, self._how)[slot]
        batch.outcomes[row] = Outcome(error, float(reply["ms"]))
        batch.moved_at = time.monotonic()

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
        os.truncate(arena, CHUNK * decoder.slot_bytes(self._how))
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
            self._memory = np.memmap(memory, np.uint8, "r")
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
