"""Pool of decoder processes, one for each core, with one queue of requests for all of them.

One more process is started when it is first needed. It decodes urgent batches only: those that are quick, and would
else wait until a slow image is decoded.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures

from core.storage import base
from model.preprocessing import decode as decode_image
from worker.decoding import decode_batch, decoder_process, protocol


class DecoderPool:
    """Decode batches in several processes; no process waits for the others to finish a batch."""

    def __init__(
        self,
        count: int,
        preprocessing: decode_image.Preprocess,
        store: base.BlobStore,
        limits: decoder_process.DecodeLimits,
    ) -> None:
        self._preprocess = preprocessing
        self._store = store
        self._limits = limits
        self._processes = [decoder_process.DecoderProcess(preprocessing, limits) for _ in range(count)]
        self._idle: queue.SimpleQueue[decoder_process.DecoderProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._executor = futures.ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._urgent_executor = futures.ThreadPoolExecutor(1, thread_name_prefix="urgent decoder")
        self._urgent_process: decoder_process.DecoderProcess | None = None
        self._lock = threading.Lock()
        self._chunks: deque[tuple[list[int], decode_batch.DecodeBatch]] = deque()
        self._open_chunks = 0

    @property
    def last_progress_at(self) -> float:
        """Return when an image was last decoded or rejected, by the monotonic clock."""
        return max(process.last_progress_at for process in self._all_processes())

    @property
    def capacity(self) -> int:
        """Return how many images keep all processes busy."""
        return protocol.MIN_CHUNK * len(self._processes)

    def submit(
        self,
        sha256s: Sequence[str],
        preprocessing: decode_image.Preprocess,
        stop: threading.Event | None = None,
        readers: Sequence[decode_batch.Reader | None] | None = None,
        seconds: float | None = None,
        on_start: Callable[[], None] = lambda: None,
        is_urgent: bool = False,
    ) -> futures.Future[decode_batch.DecodeResult]:
        """Queue a batch behind those that were submitted before.

        Args:
            sha256s: the digests of the images.
            preprocessing: the image size and filter of the network that they are for.
            stop: once it is set, no further image is started; the outcomes of the rest are None.
            readers: reads the bytes of each image; None for the blob store.
            seconds: how long after its first image is started another may be; the outcomes of the rest are None.
            on_start: is called when the first image is about to be decoded, in another thread.
            is_urgent: whether the batch goes before those that were submitted, and has one more process.

        Returns:
            A future of the result, which raises errors.ServiceUnavailable if the blob store, or a reader, fails.
        """
        readers = [None] * len(sha256s) if readers is None else readers
        batch = decode_batch.DecodeBatch(
            self._store, preprocessing, sha256s, readers, stop or threading.Event(), seconds, on_start, is_urgent
        )
        chunk_size = self._chunk_size(len(sha256s), preprocessing)
        chunks = [range(start, min(start + chunk_size, len(sha256s))) for start in range(0, len(sha256s), chunk_size)]
        batch.open_chunks = len(chunks)
        if not chunks:
            batch.finish_chunk()
        with self._lock:
            self._open_chunks += len(chunks)
            waiting = [(list(rows), batch) for rows in chunks]
            if is_urgent:
                self._chunks.extendleft(reversed(waiting))
            else:
                self._chunks.extend(waiting)
        for _ in chunks:
            self._executor.submit(self._run_next)
            if is_urgent:
                self._urgent_executor.submit(self._run_next_urgent)
        return batch.future

    def _chunk_size(self, count: int, preprocessing: decode_image.Preprocess) -> int:
        """Return the number of images per chunk: some for every process, but enough to be worth a request."""
        even_share = count // len(self._processes)
        is_saturated = self._open_chunks >= len(self._processes)
        return max(protocol.MIN_CHUNK if is_saturated else 1, min(even_share, protocol.max_chunk(preprocessing)))

    def _run_next(self) -> None:
        """Decode the next chunk, if the process for urgent batches has not taken it."""
        with self._lock:
            chunk = self._chunks.popleft() if self._chunks else None
        if chunk is not None:
            process = self._idle.get()
            try:
                self._run_chunk(lambda: process, *chunk)
            finally:
                self._idle.put(process)

    def _run_next_urgent(self) -> None:
        """Decode the next chunk in the process for urgent batches, if it is urgent."""
        with self._lock:
            chunk = self._chunks.popleft() if self._chunks and self._chunks[0][1].is_urgent else None
        if chunk is not None:
            self._run_chunk(self._start_urgent_process, *chunk)

    def _start_urgent_process(self) -> decoder_process.DecoderProcess:
        if self._urgent_process is None:
            self._urgent_process = decoder_process.DecoderProcess(self._preprocess, self._limits)
        return self._urgent_process

    def _run_chunk(
        self, process: Callable[[], decoder_process.DecoderProcess], rows: list[int], batch: decode_batch.DecodeBatch
    ) -> None:
        error: BaseException | None = None
        try:
            process().decode(rows, batch)
        except BaseException as caught:  # noqa: BLE001 (the batch's future raises it)
            error = caught
        finally:
            with self._lock:
                self._open_chunks -= 1
            batch.finish_chunk(error)

    def _all_processes(self) -> list[decoder_process.DecoderProcess]:
        return [*self._processes, *([self._urgent_process] if self._urgent_process is not None else [])]

    def close(self) -> None:
        """End the children."""
        self._executor.shutdown()
        self._urgent_executor.shutdown()
        for process in self._all_processes():
            process.stop()
