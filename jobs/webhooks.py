"""Webhooks as the Standard Webhooks specification has them: what is sent, how it is signed, when it is tried again."""

import base64
import hashlib
import hmac
import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs import clock, tables

COMPLETED = "job.completed"
"""A job has ended, however it did; there is one such event for each."""
# Seconds before each attempt, the first at once: what the specification recommends, three days in all.
DELAYS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # of a delay, more or less: who failed together shall not come again together
MOST_DELAY_SECONDS = 86_400
SECRET_PREFIX = "whsec_"  # noqa: S105 (what a secret begins with)


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: the status of the answer, or why there was none."""

    status: int | None
    error: str | None
    retry_after: float | None = None
    """The seconds for which the receiver asks to be left alone."""

    @property
    def fate(self) -> tables.DeliveryStatus:
        """What the delivery is now; pending if it is to be tried again, as far as attempts are left."""
        if self.error is None:
            return tables.DeliveryStatus.DELIVERED
        return tables.DeliveryStatus.DISABLED if self.status == 410 else tables.DeliveryStatus.PENDING


def new_secret() -> str:
    """A secret to sign with: 32 random bytes, as the specification writes them."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def payload(job: Any, event: str) -> bytes:
    """What is told of a job that has ended; the same at every attempt."""
    here = f"{job.webhook_root}v1/jobs/{job.id}"
    counts = {name: getattr(job, name) for name in ("total", "done", "failed", "cancelled", "expired")}
    moments = {name: getattr(job, name) for name in ("created_at", "started_at", "finished_at")}
    data = {
        "id": job.id,
        "status": job.status,
        "counts": counts,
        "model": job.model,
        "priority": tables.Priority(job.priority).name.lower(),
        "metadata": job.metadata,
        "retry_of": job.retry_of,
        **{name: moment and clock.written(moment) for name, moment in moments.items()},
        "status_url": here,
        "results_url": f"{here}/results",
        "retry_url": f"{here}/retry",
    }
    told = {"type": event, "timestamp": clock.written(job.finished_at), "data": data}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def signed(id_: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The headers of a webhook: its id, the time of this attempt (Unix seconds), a signature by each of the secrets."""
    said = f"{id_}.{timestamp}.".encode() + body
    digests = [hmac.digest(base64.b64decode(key.removeprefix(SECRET_PREFIX)), said, hashlib.sha256) for key in keys]
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def delay(attempts: int, outcome: Outcome) -> float | None:
    """In how many seconds the next attempt is due after so many were in vain; None if that was the last."""
    if attempts >= len(DELAYS):
        return None
    seconds = DELAYS[attempts] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (jitter, not a secret)
    return max(seconds, min(outcome.retry_after or 0.0, MOST_DELAY_SECONDS))
