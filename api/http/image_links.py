"""Links to thumbnails that need no key for a day: signed with the webhook secret of the key that asked for them.

They show images in other programs, such as Label Studio, which cannot send a key.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

import flask

from core import errors
from core.db import database
from core.db.queries import api_keys, webhook_secrets

VALID_SECONDS = 86_400


class InvalidLink(errors.ClientError):
    """This link is not valid: it has expired, was changed, or its key was revoked. Export the links again."""

    code = "invalid_link"


def signer(db: database.Database, key_id: str) -> Callable[[int], str]:
    """Return a function that makes the link to an image, by its id; the caller must be allowed to see it."""
    secret = db.write(webhook_secrets.valid_secrets, key_id)[0]
    expires, root = int(time.time()) + VALID_SECONDS, flask.request.url_root

    def sign(image_id: int) -> str:
        query = f"key={key_id}&expires={expires}&signature={_signature(secret, image_id, expires)}"
        return f"{root}v1/images/{image_id}/linked?{query}"

    return sign


def check(db: database.Database, key_id: str, image_id: int, expires: int, signature: str) -> None:
    """Check a link.

    Raises:
        InvalidLink: it has expired or was changed, or its key is not valid any more.
    """
    secrets: Sequence[str] = db.read(webhook_secrets.existing_secrets, key_id)
    is_signed = any(hmac.compare_digest(signature, _signature(secret, image_id, expires)) for secret in secrets)
    if not is_signed or expires < time.time() or not db.read(api_keys.valid_ids, [key_id]):
        raise InvalidLink


def _signature(secret: str, image_id: int, expires: int) -> str:
    return hmac.new(secret.encode(), f"image link\n{image_id}\n{expires}".encode(), hashlib.sha256).hexdigest()
