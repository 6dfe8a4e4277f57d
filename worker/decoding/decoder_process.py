"""One decoder child process, and the parent's side of the protocol with it."""

import logging
import os
import signal
import time
from dataclasses import dataclass
from typing import NamedTuple

from core import errors
from imaging import limits as image_limits
from model.preprocessing import decode
from worker.decoding import child_process, decode_batch, protocol

log = logging.getLogger(__name__)
POLLS_PER_TIMEOUT = 8  # how often the parent checks progress within the time limit of one image
CPU_SHARE = 0.8  # below 1, so that on an idle machine the CPU limit ends an endless decode before the wall clock does
MAX_STARVED_FACTOR = 6  # how many times the limit a decoder may take that wants a CPU and does not get one


@dataclass(frozen=True)
class DecodeLimits:
    """The cost limits of one image."""

    seconds: float
    """By the wall clock."""
    memory_bytes: int
    """How far the child's address space may grow."""
    max_pixels: int = image_limits.MAX_PIXELS
    """Decoded pixels."""


class _Failure(NamedTuple):
    """The failure of a decoder, and the error of the image that it is blamed on."""

    code: str
    detail: str
    event: str
    """For the log."""


class DecoderProcess:
    """Decode chunks of a batch in a child process, which is replaced when it dies or hangs."""

    def __init__(self, preprocessing: decode.Preprocess, limits: DecodeLimits) -> None:
        self._limits = limits
        self._cpu_seconds = CPU_SHARE * limits.seconds
        self._config = {
            "memory_bytes": limits.memory_bytes,
            "max_pixels": limits.max_pixels,
            "cpu_seconds": self._cpu_seconds,
        }
        self._preprocess = preprocessing
        self._child = self._start()
        self.last_progress_at = 0.0
        """When an image was last done, by the monotonic clock."""

    def stop(self) -> None:
        """End the child."""
        self._child.stop()

    def decode(self, rows: list[int], batch: decode_batch.DecodeBatch) -> None:
        """Decode rows of a batch; if it is stopped, or its time is over, the rest is not started.

        A suspect is retried in any case: it would else come back as if it had never been claimed.
        """
        self._await_ready()
        batch.start()
        while rows and not batch.is_stopped:
            self._decode_chunk(self._next_chunk(rows, batch), batch)
            rows = [row for row in rows if batch.outcomes[row] is None]
            if batch.remaining_seconds() == 0:
                rows = [row for row in rows if row in batch.suspects]

    def _await_ready(self) -> None:
        """Wait until the child has started; replace one that died before that, for the next batch."""
        try:
            self._child.await_ready()
        except errors.ServiceUnavailable:
            self._replace_child()
            raise

    def _next_chunk(self, rows: list[int], batch: decode_batch.DecodeBatch) -> list[int]:
        """Return the first rows that fit in one request: those with a path, and a suspect only alone."""
        for count, row in enumerate(rows):
            if row in batch.suspects or batch.paths[row] is None:
                return rows[: max(1, count)]
        return rows

    def _decode_chunk(self, chunk: list[int], batch: decode_batch.DecodeBatch) -> None:
        """Decode one chunk; if the child dies or hangs, some rows get no outcome and are to be retried."""
        chunk, descriptors = _open_images(chunk, batch)
        if not chunk:
            return
        started_at = time.monotonic()
        try:
            self._send(chunk, descriptors, batch)
            self._receive(chunk, batch)
        except (TimeoutError, BlockingIOError):
            culprit = self._current_row(chunk)
            self._replace_child(wait_seconds=0)
            limit = f"{self._limits.seconds:g} s (SORTBELT_DECODE_SECONDS)"
            detail = f"Decoding took longer than {limit}; retry, or send a smaller image."
            self._blame(culprit, batch, started_at, _Failure("timed_out", detail, "timed out"))
        except (EOFError, OSError, ValueError):
            culprit = self._current_row(chunk)
            exit_code = self._replace_child()
            if exit_code == -signal.SIGPROF:
                detail = f"Decoding the image takes more than {self._cpu_seconds:g} s of CPU time; send a smaller one."
                failure = _Failure("cpu_time_exceeded", detail, "used too much CPU time")
            else:
                died = f"died with exit code {exit_code}"
                detail = "Decoding the image crashes the decoder; re-encode it, or submit another file."
                failure = _Failure("crashed_decoder", detail, died)
            self._blame(culprit, batch, started_at, failure)
        except Exception:
            self._replace_child()  # its replies to this chunk must not be taken for those to the next
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _current_row(self, chunk: list[int]) -> int:
        """Return the row that the child was working on."""
        return chunk[min(self._child.done_count(), len(chunk) - 1)]

    def _blame(self, row: int, batch: decode_batch.DecodeBatch, started_at: float, failure: _Failure) -> None:
        """Mark an image as a suspect, to be retried alone; fail it if it is one already.

        Once may be bad luck: a decoder can be killed by the system, or starve on a busy machine, where the same work
        takes more CPU time too.
        """
        log.warning("a decoder %s and was replaced", failure.event)
        if row in batch.suspects:
            ms = (time.monotonic() - started_at) * 1000  # a suspect is alone, so it took all of that time
            error = errors.ImageFailed(failure.code, failure.detail)
            batch.outcomes[row] = decode_batch.DecodeOutcome(error, ms, ms)
        else:
            batch.suspects.add(row)

    def _send(self, rows: list[int], descriptors: list[int], batch: decode_batch.DecodeBatch) -> None:
        self._preprocess = batch.preprocess
        if not self._child.fits(batch.preprocess):
            self._replace_child()
        self._child.await_ready()
        self._child.reset_done_count()
        sha256s = [batch.sha256s[row] for row in rows]
        request = protocol.Request(batch.preprocess, batch.remaining_seconds(), sha256s)
        self._child.pipe.send_bytes(protocol.encode_request(request))
        protocol.send_descriptors(self._child.channel, descriptors)

    def _receive(self, rows: list[int], batch: decode_batch.DecodeBatch) -> None:
        """Store the replies to a request, of which there are fewer than rows if its time was over.

        Raises:
            TimeoutError: one of the images takes too long by the wall clock.
            BlockingIOError: the child stops in the middle of its reply for too long.
            ValueError: the child sent a malformed reply.
            errors.BlobsUnavailable: the child cannot read what this process has read.
        """
        self._await_reply(len(rows))
        replies = protocol.decode_replies(self._child.pipe.recv_bytes(protocol.MAX_REPLY_BYTES))
        self.last_progress_at = time.monotonic()
        if not 1 <= len(replies) <= len(rows):
            raise ValueError(f"a decoder sent {len(replies)} replies to a request of {len(rows)} images")
        rows = rows[: len(replies)]
        slots = protocol.slots(self._child.memory, batch.preprocess)
        if rows[-1] - rows[0] == len(rows) - 1:  # contiguous rows: one copy, which releases the interpreter's lock
            batch.pixels[rows[0] : rows[-1] + 1] = slots[: len(rows)]
        else:
            batch.pixels[rows] = slots[: len(rows)]
        for row, reply in zip(rows, replies, strict=True):
            if reply.code:
                batch.pixels[row] = 0
            if reply.code == protocol.UNAVAILABLE_CODE:
                batch.read_here(row, reply.detail)  # in the next chunk
                continue
            error = errors.ImageFailed(reply.code, reply.detail) if reply.code else None
            batch.outcomes[row] = decode_batch.DecodeOutcome(error, reply.ms, reply.cpu_ms)

    def _await_reply(self, count: int) -> None:
        """Wait for the reply to a request of so many images.

        A decoder that computes is judged by its CPU time, which the kernel counts: on a busy machine it may take long.
        """
        done, progress_at = 0, time.monotonic()
        while not self._child.pipe.poll(self._limits.seconds / POLLS_PER_TIMEOUT):
            elapsed = time.monotonic() - progress_at
            if done < self._child.done_count() <= count:
                done, progress_at = self._child.done_count(), time.monotonic()
                self.last_progress_at = progress_at
            elif elapsed >= self._limits.seconds and not (
                self._child.is_runnable() and elapsed < MAX_STARVED_FACTOR * self._limits.seconds
            ):
                raise TimeoutError

    def _start(self) -> child_process.ChildProcess:
        config = {"parent": os.getpid(), **self._config}
        return child_process.ChildProcess(protocol.memory_bytes(self._preprocess), config, self._limits.seconds)

    def _replace_child(self, wait_seconds: float = child_process.EXIT_SECONDS) -> int:
        """Start another child in place of this one; return the exit code of the old one."""
        exit_code = self._child.stop(wait_seconds)
        self._child = self._start()
        return exit_code


def _open_images(rows: list[int], batch: decode_batch.DecodeBatch) -> tuple[list[int], list[int]]:
    """Open the images of a chunk; return the rows that exist, with a descriptor for each, and fail the others.

    Raises:
        errors.ServiceUnavailable: the store or the source does not answer.
    """
    existing, descriptors = [], []
    try:
        for row in rows:
            try:
                descriptors.append(batch.open_image(row))
                existing.append(row)
            except errors.BlobMissing as error:
                batch.outcomes[row] = decode_batch.DecodeOutcome(errors.ImageFailed(error.code, error.detail), 0.0)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return existing, descriptors
