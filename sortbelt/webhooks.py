"""Incoming webhooks: whether one comes from the server that shares a secret with you, and what it tells.

    event = webhooks.verify(request.headers, request.get_data(), secret)
    print(event.job.id, event.job.status, event.job.counts.done)

They are Standard Webhooks (https://www.standardwebhooks.com): libraries of other languages verify them too.
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

from sortbelt import errors, records

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Event:
    """What a webhook tells; `id` is the same when it is sent again, so that a repeat can be passed over."""

    id: str
    type: str
    timestamp: dt.datetime | None
    data: Mapping[str, Any]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def job(self) -> records.Job:
        """The job that has ended."""
        return records.Job.read(self.data)


def verify(
    headers: Mapping[str, str], body: bytes | str, secret: str, *, tolerance: float = TOLERANCE_SECONDS
) -> Event:
    """The event of a webhook, once it is sure who sent it.

    Args:
        headers: of the request, in any case.
        body: of the request, as it came: parsed and written anew it is another.
        secret: as `sortbelt webhooks secret` prints it, `whsec_` and base64.
        tolerance: seconds that the sender's clock and the way may make it older or newer than it is.

    Raises:
        errors.BadSignature: it is not signed with this secret, or not lately; answer it with 400.
        errors.BadInput: the secret is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    id_, timestamp, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id_ and timestamp and signatures):
        raise errors.BadSignature("This is no webhook: its headers have no id, timestamp and signature.")
    if not (timestamp.isascii() and timestamp.isdecimal() and abs(time.time() - int(timestamp[:18])) <= tolerance):
        raise errors.BadSignature("This webhook was not sent now, or a clock is wrong.")
    data = body.encode() if isinstance(body, str) else body
    expected = hmac.digest(_key(secret), f"{id_}.{timestamp}.".encode("utf-8", "replace") + data, hashlib.sha256)
    said = f"v1,{base64.b64encode(expected).decode()}".encode()
    if not any(hmac.compare_digest(said, one.encode("utf-8", "replace")) for one in signatures.split(" ")):
        raise errors.BadSignature("This webhook is not signed with this secret.")
    raw = json.loads(data)
    return Event(id_, raw["type"], records.moment(raw.get("timestamp")), raw.get("data") or {}, raw)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise errors.BadInput(f"It is no secret: one reads {PREFIX} and base64; `sortbelt webhooks secret` prints it.")
    return key
