"""Claim stage: take images of one model from the queue."""

import collections
import functools
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from core import settings
from core.db import database
from core.db.queries import claims as claim_queries
from core.db.queries import counters, fair_claims
from worker import batch, batch_sizer, batch_tracing, fair_share, lease_table, settlement, source_cooldown
from worker.models import loaded_model, model_manager

BULK_EVERY = 8  # every eighth batch of a model begins with its bulk images, however many interactive ones are queued


@dataclass(eq=False)
class ClaimStage:
    """Claim batches, of one model after the other; used by one thread at a time."""

    worker_settings: settings.Settings
    worker_id: str
    db: database.Database
    manager: model_manager.ModelManager
    sizers: batch_sizer.BatchSizers
    sources: source_cooldown.SourceCooldown
    leases: lease_table.LeaseTable
    settler: settlement.ClaimSettler
    shares: fair_share.FairShare
    stop: threading.Event
    _claim_counts: collections.Counter[str] = field(init=False, default_factory=collections.Counter)
    """Batches claimed of each model."""
    _last_model: str = field(init=False, default="")

    def claim(self, *, only_new: bool, overtaken: Collection[str | None] = ()) -> batch.Batch | None:
        """Claim a batch; return None if nothing is queued, or if the claim failed.

        With `only_new`, images that were claimed before and lost are left in the queue; with keys that are `overtaken`,
        theirs, and those of other keys with slow images.
        """
        claims: list[claim_queries.Claim] = []
        trace = batch_tracing.BatchTrace(self.db, self.worker_id, claims)
        with self.settler.settle_on_error(claims):
            with trace.span("claim"):
                model, flush_reason = self._fill(claims, only_new=only_new, overtaken=overtaken)
            if claims:
                loaded = self.manager.get(model)  # a version promoted from now on does not change this batch
                self._release_surplus(claims, loaded)
                return batch.Batch(loaded, claims, trace, flush_reason, is_overtaking=bool(overtaken))
        return None

    def _release_surplus(self, claims: list[claim_queries.Claim], loaded: loaded_model.LoadedModel) -> None:
        """Hand back the claims whose pixels would take too much memory: a version may expect very large images."""
        image_bytes = loaded.preprocess.height * loaded.preprocess.width * 3
        max_size = batch_sizer.limit(image_bytes, loaded.batch_classifier.device_capacity)
        surplus = claims[max_size:]
        if surplus:
            del claims[max_size:]
            self.settler.release(surplus)

    def begin_attempt(self, retried: batch.Batch) -> bool:
        """Count the attempt of images that were lost before; return False if that failed, and the claims are settled.

        It counts only now, right before the network sees them, since this is where they may crash the worker.
        """
        with self.settler.settle_on_error(retried.claims):
            started = self.db.write(claim_queries.begin_attempt, retried.claims)
            self.leases.update(started)
            claims_by_id = {claim.image_id: claim for claim in started}
            retried.claims = [claims_by_id.get(claim.image_id, claim) for claim in retried.claims]
            return True
        return False

    def _fill(
        self, claims: list[claim_queries.Claim], *, only_new: bool, overtaken: Collection[str | None]
    ) -> tuple[str, counters.FlushReason]:
        """Claim a batch into `claims`; return its model, and why it is not larger.

        A partial batch lingers for more images only while another batch is on the device (`only_new`). The first batch
        of a run is never delayed; images that arrive meanwhile share the next batch.
        """
        rotation = self._model_rotation()
        limits = {name: self.sizers.size(name) for name in rotation}
        slow = False if overtaken else None
        first = self._claim_images(claims, rotation, limits, only_new=only_new, slow=slow, without=overtaken)
        limit = limits.get(first.model, 0)
        if claims and claims[0].was_lost:
            return first.model, counters.FlushReason.RETRY
        if first.is_full:
            return first.model, counters.FlushReason.FULL
        if only_new and claims and self.worker_settings.linger_ms and not overtaken:
            slow = self.shares.is_slow(claims[0].api_key_id)
            time.sleep(self.worker_settings.linger_ms / 1000)
            remaining = {first.model: limit - len(claims)}
            self._claim_images(claims, {first.model: False}, remaining, only_new=True, slow=slow)
            return first.model, counters.FlushReason.FULL if len(claims) == limit else counters.FlushReason.LINGER
        return first.model, counters.FlushReason.DRAIN

    def _model_rotation(self) -> dict[str, bool]:
        """Return the models in turn, beginning after the last one, and whether bulk images of each go first."""
        names = self.manager.model_names()
        names = [name for name in names if name > self._last_model] + [n for n in names if n <= self._last_model]
        return {name: (self._claim_counts[name] + 1) % BULK_EVERY == 0 for name in names}

    def _claim_images(
        self,
        claims: list[claim_queries.Claim],
        rotation: dict[str, bool],
        limits: dict[str, int],
        *,
        only_new: bool,
        slow: bool | None = None,
        without: Collection[str | None] = (),
    ) -> fair_claims.FairBatch:
        """Append claims of the first model that has queued images, of slow or quick ones, and return them."""
        if self.stop.is_set():
            return fair_claims.FairBatch()
        batch_ = self.db.write(
            fair_claims.claim,
            self.worker_id,
            rotation,
            functools.partial(self.shares.take_turns, slow=slow, without=without),
            limits=limits,
            lease_seconds=self.worker_settings.lease_seconds,
            only_new=only_new,
            sources=self.sources.available(),
        )
        self.leases.add(batch_.claims)
        claims += batch_.claims
        self.shares.charge(batch_.claims)
        if batch_.model:
            self._claim_counts[batch_.model] += 1
            self._last_model = batch_.model
        return batch_
