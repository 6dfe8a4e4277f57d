"""Retry schedule of webhooks: the delay before each attempt, and what the outcome of one means for the next."""

import random
from dataclasses import dataclass

from core import enums

# Seconds before each attempt, the first at once: the schedule that the specification recommends, three days in all.
RETRY_DELAYS_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # ±10 % of a delay, so that deliveries that failed together are not retried together
MAX_RETRY_DELAY_SECONDS = 86_400


@dataclass(frozen=True)
class DeliveryAttempt:
    """The outcome of an attempt: the response's status, or why there was none."""

    status: int | None
    error: str | None
    retry_after: float | None = None
    """The seconds for which the receiver asks not to be called."""

    @property
    def delivery_status(self) -> enums.DeliveryStatus:
        """The delivery's status after this attempt; pending if it is to be retried while attempts are left."""
        if self.error is None:
            return enums.DeliveryStatus.DELIVERED
        return enums.DeliveryStatus.DISABLED if self.status == 410 else enums.DeliveryStatus.PENDING


def next_retry_delay(attempts: int, outcome: DeliveryAttempt) -> float | None:
    """Return the seconds until the next attempt after so many failed ones; None if that was the last."""
    if attempts >= len(RETRY_DELAYS_SECONDS):
        return None
    seconds = RETRY_DELAYS_SECONDS[attempts] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (jitter, not a secret)
    return max(seconds, min(outcome.retry_after or 0.0, MAX_RETRY_DELAY_SECONDS))
