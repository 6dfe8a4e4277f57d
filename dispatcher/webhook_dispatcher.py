"""Webhook dispatcher: claims due deliveries, sends them, records the outcome.

A slow receiver delays other webhooks only, and of those at most a quarter of the threads: no key gets more.
"""

import contextlib
import email.utils
import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import httpcore
import sqlalchemy as sa

from core import settings
from core.db import database
from core.db.queries import jobs, webhook_deliveries, webhook_secrets
from core.tracing import tracer
from core.webhooks import payload, retry_schedule, signing, url_policy
from dispatcher import http_client, poller

CONCURRENCY = 32
CONCURRENCY_PER_OWNER = CONCURRENCY // 4
ATTEMPT_TIMEOUT_SECONDS = 15.0  # for one attempt of a webhook delivery, in total
MAX_RESPONSE_BYTES = 4_096  # of a response body, which is not used

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """A claimed delivery with its job and the secrets that sign it."""

    claim: webhook_deliveries.Claim
    job: Any
    secrets: list[str]


class WebhookDispatcher(poller.PollingLoop[Delivery]):
    """The polling loop over due webhook deliveries."""

    def __init__(self, config: settings.Settings, db: database.Database) -> None:
        super().__init__("webhooks", CONCURRENCY, db, webhook_deliveries.has_due)
        self._http_client = http_client.HttpClient(config.webhook_allow)

    def _claim(self, conn: sa.Connection, limit: int) -> list[tuple[str, Delivery]]:
        claims = webhook_deliveries.claim(
            conn, limit=limit, max_per_owner=CONCURRENCY_PER_OWNER, in_flight=self._count_in_flight()
        )
        rows = jobs.get_many(conn, {claim.job_id for claim in claims})
        owners = sorted({claim.owner for claim in claims})
        secrets = {owner: webhook_secrets.valid_secrets(conn, owner) for owner in owners}
        return [(claim.owner, Delivery(claim, rows[claim.job_id], secrets[claim.owner])) for claim in claims]

    def _describe(self, task: Delivery) -> str:
        return f"sending webhook {task.claim.id}"

    def _run_task(self, task: Delivery) -> None:
        claim = task.claim
        body = payload.build_payload(task.job, claim.event)
        headers = signing.signature_headers(claim.id, int(time.time()), body, task.secrets)
        outcome = self._send_in_span(claim, task.job, headers, body)
        if outcome.error is not None:
            log.info("webhook %s, attempt %d: %s", claim.id, claim.attempts, outcome.error)
        self._db.write(webhook_deliveries.record_attempt, claim, outcome)

    def _send_in_span(
        self, claim: webhook_deliveries.Claim, job: Any, headers: dict[str, str], body: bytes
    ) -> retry_schedule.DeliveryAttempt:
        """Make one attempt in a span whose `traceparent` is sent along, so that the receiver may continue the trace."""
        ids: dict[str, str | int] = {"sortbelt.job.id": claim.job_id, "sortbelt.delivery.id": claim.id}
        request: dict[str, str | int] = {"sortbelt.delivery.attempt": claim.attempts, "http.request.method": "POST"}
        with tracer.client_span("webhook", ids | request, {claim.job_id: job.traceparent}) as span:
            if (traceparent := tracer.traceparent()) is not None:
                headers |= {"traceparent": traceparent}
            outcome = send(self._http_client, claim.url, headers, body)
            if outcome.status is not None:
                span.set_attributes({"http.response.status_code": outcome.status})
            if outcome.error is not None:
                span.set_error("no answer" if outcome.status is None else str(outcome.status))
        return outcome


def send(
    client: http_client.HttpClient, url: str, headers: dict[str, str], body: bytes
) -> retry_schedule.DeliveryAttempt:
    """Make one attempt of a webhook delivery: a POST, within `ATTEMPT_TIMEOUT_SECONDS` in total."""
    all_headers = {"Content-Type": "application/json", **headers}
    try:
        with client.exchange("POST", url, all_headers, ATTEMPT_TIMEOUT_SECONDS, body) as response:
            _drain_response(response)
            return _to_attempt(response)
    except url_policy.DestinationForbidden as error:
        return retry_schedule.DeliveryAttempt(None, f"Destination not allowed: {error}.")
    except http_client.TIMEOUT_ERRORS:
        return retry_schedule.DeliveryAttempt(
            None, f"The receiver did not respond within {ATTEMPT_TIMEOUT_SECONDS:g} seconds."
        )
    except http_client.CONNECTION_ERRORS as error:
        return retry_schedule.DeliveryAttempt(
            None, f"Connection failed, or the response was not HTTP: {type(error).__name__} {error}"[:500]
        )


def _drain_response(response: httpcore.Response) -> None:
    """Read a little of the response body: a receiver that is still writing would see a failure otherwise."""
    read_bytes = 0
    with contextlib.suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        for chunk in response.iter_stream():
            read_bytes += len(chunk)
            if read_bytes > MAX_RESPONSE_BYTES:
                return


def _to_attempt(response: httpcore.Response) -> retry_schedule.DeliveryAttempt:
    if 200 <= response.status < 300:
        return retry_schedule.DeliveryAttempt(response.status, None)
    reason = "a redirect, which is not followed" if 300 <= response.status < 400 else "which is not 2xx"
    retry_after = {name.lower(): value for name, value in response.headers}.get(b"retry-after", b"").decode("latin-1")
    return retry_schedule.DeliveryAttempt(
        response.status,
        f"The receiver responded with {response.status}, {reason}.",
        _parse_retry_after(retry_after.strip()),
    )


def _parse_retry_after(value: str) -> float | None:
    """Parse a Retry-After header, in seconds or as a date."""
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
