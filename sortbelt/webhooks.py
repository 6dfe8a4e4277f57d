"""Verify incoming webhooks, and parse their events.

    event = webhooks.verify(request.headers, request.get_data(), secret)
    print(event.job.id, event.job.status, event.job.counts.done)

They follow Standard Webhooks (https://www.standardwebhooks.com), which libraries of other languages verify, too.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sortbelt import errors
from sortbelt.client import responses
from sortbelt.client.responses import timestamps

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
TOLERANCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Event:
    """Event of a webhook. A repeated delivery has the same `id`."""

    id: str
    type: str
    timestamp: dt.datetime | None
    data: Mapping[str, Any]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def job(self) -> responses.Job:
        """Return the job that has ended."""
        return responses.Job.from_json(self.data)


def verify(
    headers: Mapping[str, str], body: bytes | str, secret: str, *, tolerance: float = TOLERANCE_SECONDS
) -> Event:
    """Verify a webhook and return its event.

    Args:
        headers: request headers, in any case.
        body: request body, byte for byte; a parsed and serialized copy may differ.
        secret: signing secret as printed by `sortbelt webhooks secret`, `whsec_` and base64.
        tolerance: maximum age, in seconds, by the webhook's timestamp, in both directions.

    Raises:
        errors.BadSignature: not signed with this secret, or too old or too new; respond with 400.
        errors.BadInput: the secret is malformed.
    """
    lowercase_headers = {name.lower(): value for name, value in headers.items()}
    id_, timestamp, signatures = (
        lowercase_headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not (id_ and timestamp and signatures):
        raise errors.BadSignature("The headers webhook-id, webhook-timestamp and webhook-signature are missing.")
    if not (timestamp.isascii() and timestamp.isdecimal() and abs(time.time() - int(timestamp[:18])) <= tolerance):
        raise errors.BadSignature("The webhook's timestamp is too far from now: it is old, or a clock is wrong.")
    data = body.encode() if isinstance(body, str) else body
    mac = hmac.digest(_decode_secret(secret), f"{id_}.{timestamp}.".encode("utf-8", "replace") + data, hashlib.sha256)
    expected_signature = f"v1,{base64.b64encode(mac).decode()}".encode()
    if not any(
        hmac.compare_digest(expected_signature, signature.encode("utf-8", "replace"))
        for signature in signatures.split(" ")
    ):
        raise errors.BadSignature("The webhook is not signed with this secret.")
    raw = json.loads(data)
    return Event(id_, raw["type"], timestamps.parse_timestamp(raw.get("timestamp")), raw.get("data") or {}, raw)


def _decode_secret(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise errors.BadInput(
            f"The secret is malformed: it must be {SECRET_PREFIX} and base64, as `sortbelt webhooks secret` prints it."
        )
    return key
