"""Links to thumbnails that need no key for a day: signed by the server for the key that asked for them.

They show images in other programs, such as Label Studio, which cannot send a key.
"""

import hashlib
import hmac
import time
from collections.abc import Callable

import flask

from core import errors
from core.db import database
from core.db.queries import api_keys, installation

VALID_SECONDS = 86_400


class InvalidLink(errors.ClientError):
    """This link is not valid: it has expired, was changed, or its key was revoked. Export the links again."""

    code = "invalid_link"


def signer(db: database.Database, key_id: str) -> Callable[[int], str]:
    """Return a function that makes the link to an image, by its id; the caller must be allowed to see it."""
    secret = db.write(installation.get_or_create_id)
    expires, root = int(time.time()) + VALID_SECONDS, flask.request.url_root

    def sign(image_id: int) -> str:
        query = f"key={key_id}&expires={expires}&signature={_signature(secret, key_id, image_id, expires)}"
        return f"{root}v1/images/{image_id}/linked?{query}"

    return sign


def check(db: database.Database, key_id: str, image_id: int, expires: int, signature: str) -> api_keys.Caller:
    """Check a link; return the holder of its key, which must still be allowed to see the image.

    Raises:
        InvalidLink: it has expired or was changed, or its key is not valid any more.
    """
    secret = db.read(installation.get_or_create_id)
    if not hmac.compare_digest(signature, _signature(secret, key_id, image_id, expires)) or expires < time.time():
        raise InvalidLink
    holder = db.read(api_keys.find_valid, key_id)
    if holder is None:
        raise InvalidLink
    return holder


def _signature(secret: str, key_id: str, image_id: int, expires: int) -> str:
    # Not the key's digest or its webhook secret: their holders could sign links to the images of other keys.
    message = f"image link\n{key_id}\n{image_id}\n{expires}"
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
