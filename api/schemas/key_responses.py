"""Response schemas of API keys."""

from typing import Annotated, Any

from typing_extensions import TypedDict

from api.schemas import fields
from api.schemas.fields import doc
from core import enums

Quota = Annotated[int | None, doc("null for the default in the server's settings, 0 for no limit", examples=[600])]


class Key(TypedDict):
    """A key, without its secret."""

    id: Annotated[fields.Id, doc("the id of this key, which is not a secret")]
    name: Annotated[str, doc("as it was given at creation")]
    role: Annotated[enums.Role, doc("its role")]
    prefix: Annotated[str, doc("the first characters of the key")]
    created_at: Annotated[fields.Timestamp, doc("when it was created")]
    expires_at: Annotated[fields.Timestamp | None, doc("when it expires; null for never")]
    revoked_at: Annotated[fields.Timestamp | None, doc("when it was revoked; null if it was not")]
    images_per_minute: Quota
    bytes_per_minute: Quota
    open_images: Quota
    open_bytes: Quota
    work_seconds_per_minute: Quota


class CurrentKey(TypedDict):
    """The key of the request, and its role."""

    id: Annotated[fields.Id, doc("the id of the key, which is not a secret")]
    name: Annotated[str, doc("as it was given at creation")]
    role: Annotated[enums.Role, doc("its role")]


class NewKey(Key):
    """A new key, with its secret."""

    key: Annotated[str, doc("the key itself, which is shown only once")]


class Keys(TypedDict):
    """All keys."""

    keys: Annotated[list[Key], doc("the oldest first")]


def serialize_key(row: Any) -> Key:
    """Return a key, without its secret."""
    return fields.from_row(Key, row)
