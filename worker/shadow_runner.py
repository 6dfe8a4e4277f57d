"""Shadow runner: shadow versions classify a share of the live model's images, without effect on the results.

Batches are offered once their results are committed. A background thread with low priority has them classified, by a
process for each version, on the CPU, with a memory limit, and writes to a table of its own; batches that it cannot keep
up with are dropped.
"""

import contextlib
import hashlib
import logging
import os
import queue
import threading
from collections.abc import Sequence

from core.db import database
from core.db.queries import claims as claim_queries
from core.db.queries import models, shadows
from core.sources import catalog
from core.storage import base
from model.packaging import manifest
from model.preprocessing import decode
from worker import batch, inference
from worker.decoding import decoder_pool, decoder_process
from worker.models import model_manager, model_process

log = logging.getLogger(__name__)
MAX_QUEUED_BATCHES = 8  # each holds its pixels in memory
MAX_SHADOW_BATCH = 16  # images, so that the live network keeps the device's memory
STOP_SECONDS = 5.0


class ShadowRunner:
    """Classify shares of batches with the shadow versions, in a thread with a bounded queue."""

    def __init__(
        self,
        db: database.Database,
        manager: model_manager.ModelManager,
        store: base.BlobStore,
        limits: decoder_process.DecodeLimits,
        source_catalog: catalog.SourceCatalog,
    ) -> None:
        self._db = db
        self._model_manager = manager
        self._store = store
        self._limits = limits
        self._sources = source_catalog
        self._decoder_pool: decoder_pool.DecoderPool | None = None
        """One decoder, started for the first shadow version whose pixels differ from those of the live model."""
        self._pending: queue.Queue[tuple[models.Version, batch.Batch] | None] = queue.Queue(MAX_QUEUED_BATCHES)
        self._stop = threading.Event()
        self._processes: dict[models.Version, model_process.ModelProcess] = {}
        """A process of each shadow version: whatever it does, it does not take the worker down."""
        self.dropped = 0
        """How many images were dropped because the queue was full."""
        self._thread = threading.Thread(target=self._run_loop, name="shadows", daemon=True)
        self._thread.start()

    def offer(self, live_batch: batch.Batch) -> None:
        """Queue each shadow version's share of a batch; return at once, and never raise."""
        try:
            for version in self._model_manager.shadow_versions(live_batch.loaded.model_ref.name):
                rows = [
                    row
                    for row, claim in enumerate(live_batch.claims)
                    if is_sampled(claim.image_id, version.share or 0.0)
                    and live_batch.decode_outcomes[row].error is None
                ]
                if rows:
                    self._enqueue(version, live_batch.select(rows))
        except Exception:
            log.exception("a batch could not be offered to the shadow versions")

    def close(self) -> None:
        """Drop the queue, and wait a few seconds for the current batch."""
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._pending.put_nowait(None)
        self._thread.join(STOP_SECONDS)
        if not self._thread.is_alive():
            self._end_processes(list(self._processes))
            if self._decoder_pool is not None:
                self._decoder_pool.close()

    def _enqueue(self, version: models.Version, sample: batch.Batch) -> None:
        try:
            self._pending.put_nowait((version, sample))
        except queue.Full:
            if not self.dropped:
                log.warning("%s cannot keep up as a shadow; some images are dropped", version.qualified_name)
            self.dropped += len(sample.claims)

    def _run_loop(self) -> None:
        # Linux has a niceness for each thread, which the threads that torch starts from here inherit.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), model_manager.SHADOW_NICENESS)
        while (item := self._pending.get()) is not None and not self._stop.is_set():
            version, sample = item
            if version.id not in {each.id for each in self._model_manager.shadow_versions(version.name)}:
                self.dropped += len(sample.claims)
                continue
            try:
                self._classify(version, sample)
            except Exception as error:
                log.warning(
                    "%s failed as a shadow on %d images", version.qualified_name, len(sample.claims), exc_info=True
                )
                self._record_failure(version, sample, error)

    def _classify(self, version: models.Version, sample: batch.Batch) -> None:
        process = self._process_of(version)
        if process.preprocess.pixel_format != sample.loaded.preprocess.pixel_format:
            self._decode_again(sample, process.preprocess)
        batch_classifier = inference.BatchClassifier(process, MAX_SHADOW_BATCH)
        try:
            outcomes = batch_classifier.classify(sample.claims, sample.pixels, sample.decode_outcomes)
        except manifest.InvalidBundle as error:
            # A late reply would be taken for the scores of the next batch.
            self._end_processes([version])
            self._model_manager.reject(version, str(error))
            raise
        self._db.write(shadows.record, version.id, outcomes)

    def _process_of(self, version: models.Version) -> model_process.ModelProcess:
        """Return the process of a shadow version; start it, and end those of versions that are shadows no more."""
        if version not in self._processes:
            current = self._model_manager.shadow_versions(version.name)
            self._end_processes([each for each in self._processes if each.name == version.name and each not in current])
            self._processes[version] = self._model_manager.start_process(version)
        return self._processes[version]

    def _end_processes(self, versions: Sequence[models.Version]) -> None:
        for version in versions:
            self._processes.pop(version).close()

    def _decode_again(self, sample: batch.Batch, preprocessing: decode.Preprocess) -> None:
        """Replace the pixels of a batch by those that the shadow version expects."""
        if self._decoder_pool is None:
            self._decoder_pool = decoder_pool.DecoderPool(1, preprocessing, self._store, self._limits)
        claims = sample.claims
        readers = [self._sources.image_reader(claim.source, claim.location, claim.bytes) for claim in claims]
        sha256s = [claim.sha256 for claim in claims]
        sample.pixels, outcomes = self._decoder_pool.submit(sha256s, preprocessing, readers=readers).result()
        sample.decode_outcomes = [outcome for outcome in outcomes if outcome is not None]  # all: there is no stop event

    def _record_failure(self, version: models.Version, sample: batch.Batch, error: Exception) -> None:
        """Record the failure for each image of a batch, if the database is available."""
        reason = f"{type(error).__name__}: {error}"[:1000]
        outcomes = [
            claim_queries.Outcome(claim, error_code="shadow_failed", error_detail=reason) for claim in sample.claims
        ]
        with contextlib.suppress(Exception):
            self._db.write(shadows.record, version.id, outcomes)


def is_sampled(image_id: int, share: float) -> bool:
    """Return whether an image is in a shadow version's share; the images of a share are in every larger share too."""
    hash_prefix = hashlib.sha256(str(image_id).encode()).digest()[:8]
    return int.from_bytes(hash_prefix) < share * 2**64
