"""Pool of decoder processes, one for each core, with one queue of requests for all of them."""

import queue
import threading
from collections.abc import Sequence
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
        self._processes = [decoder_process.DecoderProcess(preprocessing, limits) for _ in range(count)]
        self._idle: queue.SimpleQueue[decoder_process.DecoderProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._executor = futures.ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._lock = threading.Lock()
        self._open_chunks = 0

    @property
    def last_progress_at(self) -> float:
        """Return when an image was last decoded or rejected, by the monotonic clock."""
        return max(process.last_progress_at for process in self._processes)

    @property
    def capacity(self) -> int:
        """Return how many images keep all processes busy."""
        return protocol.MIN_CHUNK * len(self._processes)

    def decode(
        self,
        sha256s: Sequence[str],
        stop: threading.Event | None = None,
        readers: Sequence[decode_batch.Reader | None] | None = None,
    ) -> decode_batch.DecodeResult:
        """Decode a batch for the default model, and wait for it; see `submit`."""
        return self.submit(sha256s, self._preprocess, stop, readers).result()

    def submit(
        self,
        sha256s: Sequence[str],
        preprocessing: decode_image.Preprocess,
        stop: threading.Event | None = None,
        readers: Sequence[decode_batch.Reader | None] | None = None,
        seconds: float | None = None,
    ) -> futures.Future[decode_batch.DecodeResult]:
        """Queue a batch behind those that were submitted before.

        Args:
            sha256s: the digests of the images.
            preprocessing: the image size and filter of the network that they are for.
            stop: once it is set, no further image is started; the outcomes of the rest are None.
            readers: reads the bytes of each image; None for the blob store.
            seconds: how long after its first image is started another may be; the outcomes of the rest are None.

        Returns:
            A future of the result, which raises errors.ServiceUnavailable if the blob store, or a reader, fails.
        """
        readers = [None] * len(sha256s) if readers is None else readers
        batch = decode_batch.DecodeBatch(
            self._store, preprocessing, sha256s, readers, stop or threading.Event(), seconds
        )
        chunk_size = self._chunk_size(len(sha256s), preprocessing)
        chunks = [range(start, min(start + chunk_size, len(sha256s))) for start in range(0, len(sha256s), chunk_size)]
        batch.open_chunks = len(chunks)
        if not chunks:
            batch.finish_chunk()
        with self._lock:
            self._open_chunks += len(chunks)
        for rows in chunks:
            self._executor.submit(self._run_chunk, list(rows), batch)
        return batch.future

    def _chunk_size(self, count: int, preprocessing: decode_image.Preprocess) -> int:
        """Return the number of images per chunk: some for every process, but enough to be worth a request."""
        even_share = count // len(self._processes)
        is_saturated = self._open_chunks >= len(self._processes)
        return max(protocol.MIN_CHUNK if is_saturated else 1, min(even_share, protocol.max_chunk(preprocessing)))

    def _run_chunk(self, rows: list[int], batch: decode_batch.DecodeBatch) -> None:
        error: BaseException | None = None
        process = self._idle.get()
        try:
            process.decode(rows, batch)
        except BaseException as caught:  # noqa: BLE001 (the batch's future raises it)
            error = caught
        finally:
            self._idle.put(process)
            with self._lock:
                self._open_chunks -= 1
            batch.finish_chunk(error)

    def pids(self) -> list[int]:
        """Return the process ids of the children."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        """End the children."""
        self._executor.shutdown()
        for process in self._processes:
            process.stop()
