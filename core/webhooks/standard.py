"""Standard Webhooks: secrets, signatures, and the retry schedule."""

import base64
import hashlib
import hmac
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from core import enums

# Seconds before each attempt, the first at once: the schedule that the specification recommends, three days in all.
RETRY_DELAYS_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # ±10 % of a delay, so that deliveries that failed together are not retried together
MAX_RETRY_DELAY_SECONDS = 86_400
SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix, not a secret)


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


def new_secret() -> str:
    """Generate a secret: 32 random bytes in the specification's encoding."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature_headers(webhook_id: str, timestamp: int, body: bytes, signing_secrets: Sequence[str]) -> dict[str, str]:
    """Build the headers of a webhook: its id, the attempt's time (Unix seconds), and a signature by each secret."""
    signed_content = f"{webhook_id}.{timestamp}.".encode() + body
    digests = [
        hmac.digest(base64.b64decode(key.removeprefix(SECRET_PREFIX)), signed_content, hashlib.sha256)
        for key in signing_secrets
    ]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def next_retry_delay(attempts: int, outcome: DeliveryAttempt) -> float | None:
    """Return the seconds until the next attempt after so many failed ones; None if that was the last."""
    if attempts >= len(RETRY_DELAYS_SECONDS):
        return None
    seconds = RETRY_DELAYS_SECONDS[attempts] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (jitter, not a secret)
    return max(seconds, min(outcome.retry_after or 0.0, MAX_RETRY_DELAY_SECONDS))
