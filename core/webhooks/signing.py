"""Signatures of webhooks by Standard Webhooks, and their secrets."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix, not a secret)


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
