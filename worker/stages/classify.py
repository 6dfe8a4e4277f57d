"""Classify stage: run the network over the pixels of a batch."""

import logging
import time
from dataclasses import dataclass

from worker import batch, batch_sizer, settlement

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ClassifyStage:
    """Give each image of a batch its outcome."""

    sizers: batch_sizer.BatchSizers
    settler: settlement.ClaimSettler

    def classify(self, decoded: batch.Batch) -> None:
        """Set the outcomes of a batch; if the network fails, abandon its claims and leave the outcomes empty."""
        started_at = time.monotonic()
        try:
            with decoded.trace.span("forward"):
                decoded.outcomes = decoded.loaded.batch_classifier.classify(
                    decoded.claims, decoded.pixels, decoded.decode_outcomes
                )
        except Exception:
            log.exception(
                "a batch of %d could not be classified; its images will be retried in smaller batches",
                len(decoded.claims),
            )
            self.settler.abandon(decoded.claims)
            return
        seconds = max(decoded.decode_seconds, time.monotonic() - started_at)  # of the slower stage
        max_size = batch_sizer.limit(decoded.pixels[0].nbytes, decoded.loaded.batch_classifier.device_capacity)
        self.sizers.observe(decoded.loaded.model_ref.name, len(decoded.claims), seconds, max_size)
