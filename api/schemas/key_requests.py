"""Request schemas of API keys and their quotas."""

from typing import Annotated, Any

import pydantic

from api.schemas import base, request_fields
from core import enums

MAX_KEY_SECONDS = 36_500 * 86_400


KeyName = Annotated[
    request_fields.Text,
    pydantic.Field(
        min_length=1,
        max_length=255,
        description="a text of 1 to 255 characters, no control characters",
        examples=["kitchen"],
    ),
]


def _coerce_integer(value: object) -> object:
    """Return a whole number as JSON defines it: 2.0 is one, true and "2" are not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Quota = Annotated[int, pydantic.Strict(), pydantic.Field(ge=0, le=10**15), pydantic.BeforeValidator(_coerce_integer)]


def _quota_field(subject: str) -> Any:
    description = f"{subject}; null for the default in the server's settings, 0 for no limit"
    return pydantic.Field(None, description=description, examples=[600])


class KeyLimits(base.RequestModel):
    """The quotas of a key, and when it expires."""

    images_per_minute: Quota | None = _quota_field("a whole number of images that it may submit per minute")
    bytes_per_minute: Quota | None = _quota_field("a whole number of bytes of images that it may submit per minute")
    open_images: Quota | None = _quota_field("a whole number of its images that may be without a result at a time")
    open_bytes: Quota | None = _quota_field(
        "a whole number of bytes of its images that may be without a result at a time"
    )
    work_seconds_per_minute: Quota | None = _quota_field(
        "a whole number of seconds that decoding and classifying its images may take per minute"
    )
    expires_in: Annotated[float, pydantic.Strict(), pydantic.Field(ge=1, le=MAX_KEY_SECONDS)] | None = pydantic.Field(
        None,
        description=f"seconds, 1 to {MAX_KEY_SECONDS:,}, after which it expires; null for never",
        examples=[7776000],
    )


class NewKeyRequest(KeyLimits):
    """A key to be created."""

    example = 'Send {"name": …, "role": "read", "review", "submit" or "admin"}.'
    name: KeyName
    role: Annotated[
        enums.Role,
        pydantic.Field(description=f"one of {', '.join(enums.Role)}"),
        pydantic.WithJsonSchema({"type": "string", "enum": list(enums.Role), "examples": ["submit"]}),
    ]


class KeyUpdateRequest(KeyLimits):
    """Changes of a key; absent fields stay as they are."""

    example = 'Send {"images_per_minute": 600}, or other fields to change.'
    name: KeyName = pydantic.Field("", description="a text of 1 to 255 characters, no control characters")

    @property
    def provided_fields(self) -> dict[str, Any]:
        """The present fields, by name."""
        return self.model_dump(include=self.model_fields_set)
