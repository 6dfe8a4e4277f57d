"""Field types that several request schemas share."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pydantic

from core import json_values

ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
TIMESTAMP_CURSOR_PATTERN = r"^[0-9]{1,16}_" + ID_PATTERN.removeprefix("^")
NO_CONTROL_CHARACTERS = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
MAX_METADATA_BYTES = 16_384
TIMESTAMP_DESCRIPTION = (
    "a timestamp, such as 2026-01-31T12:00:00Z, a date, today or yesterday (UTC), or a time before now, such as 24h "
    "or 7d"
)
UTC_NOTE = "without a time zone it is taken as UTC, and the response says so in the header `Sortbelt-Notice`"
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
OWNER_DESCRIPTION = (
    "the name or the id of the key that submitted the job; a key of the role submit sees only its own in any case"
)
CUSTOM_ID_DESCRIPTION = "your own identifier, 1 to 255 characters, no control characters; need not be unique"


def cursor() -> Any:
    """Return the field of a position in a list, which a page's Link header gives."""
    return pydantic.Field(None, description="the position after the previous page, taken from its Link header")


def reject_control_characters(text: str) -> str:
    """Return the text if every database and JSON reader accepts it.

    Raises:
        ValueError: it has a control character or an unpaired surrogate.
    """
    text.encode()
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("it must not contain control characters")
    return text


def parse_json_object(value: Any) -> Any:
    """Return a JSON object that is given as such or, in forms and URLs, as text.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str):
        value = json_values.parse_json(value)
    if not isinstance(value, dict):
        raise ValueError("it must be a JSON object")  # noqa: TRY004 (pydantic wants a ValueError)
    return value


def is_without_zone(text: str) -> bool:
    """Return whether a text is a timestamp without a time zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _parse_timestamp(value: object) -> datetime:
    try:
        timestamp = _relative_timestamp(str(value)) or datetime.fromisoformat(str(value))
        return timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"it must be {TIMESTAMP_DESCRIPTION}") from None


def _relative_timestamp(text: str) -> datetime | None:
    """Return the moment of `today`, `yesterday` or a duration before now; None for another text."""
    now = datetime.now(UTC)
    if text in ("today", "yesterday"):
        return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=text == "yesterday")
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    return None if match is None else now - timedelta(seconds=int(match[1]) * SECONDS_PER_UNIT[match[2]])


def _parse_boolean(value: object) -> object:
    """Return a boolean that is written as in JSON, or as Python's generated clients do; no other word is accepted."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def reject_boolean(value: object) -> object:
    """Reject true and false, which pydantic takes for 1 and 0; in forms and parameters a number is a text."""
    if isinstance(value, bool):
        raise ValueError("it must be a number, not true or false")  # noqa: TRY004 (pydantic reports ValueError only)
    return value


def _parse_metadata(value: Any) -> Any:
    value = parse_json_object(value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("it must not contain half of a surrogate pair, such as \\ud800") from None
    except ValueError:
        raise ValueError("it must not contain a number too large for a 64-bit float, such as 1e999") from None
    if size > MAX_METADATA_BYTES or "\\u0000" in text:
        raise ValueError(f"it may have at most {MAX_METADATA_BYTES:,} bytes, and no NUL character")
    return value


def _compose(text: str) -> str:
    """Return a text in Unicode's normalization form C, so that equal names are found however they were typed."""
    return unicodedata.normalize("NFC", text)


Id = Annotated[str, pydantic.StringConstraints(pattern=ID_PATTERN)]
TimestampCursor = Annotated[str, pydantic.StringConstraints(pattern=TIMESTAMP_CURSOR_PATTERN)]
Text = Annotated[
    str,
    pydantic.Field(
        max_length=1024,
        description="a text of at most 1,024 characters, no control characters",
        json_schema_extra=NO_CONTROL_CHARACTERS,
    ),
    pydantic.AfterValidator(reject_control_characters),
]
Timestamp = Annotated[
    datetime,
    pydantic.BeforeValidator(_parse_timestamp),
    pydantic.Field(description=f"{TIMESTAMP_DESCRIPTION}; {UTC_NOTE}"),
]
Boolean = Annotated[
    bool, pydantic.BeforeValidator(_parse_boolean), pydantic.Strict(), pydantic.Field(description="true or false")
]
Fraction = Annotated[
    float, pydantic.Field(ge=0, le=1, description="a number from 0 to 1"), pydantic.BeforeValidator(reject_boolean)
]
VersionRef = Annotated[
    str, pydantic.Field(pattern=r"^[a-z0-9._-]{1,100}@[a-z0-9._-]{1,100}$", description="a version, as NAME@VERSION")
]
JobName = Annotated[
    str,
    pydantic.Field(
        min_length=1,
        max_length=255,
        description="a name for people, 1 to 255 characters, no control characters; need not be unique",
        json_schema_extra=NO_CONTROL_CHARACTERS,
        examples=["Holidays 2026"],
    ),
    pydantic.AfterValidator(reject_control_characters),
    pydantic.AfterValidator(_compose),
]
CustomId = Annotated[
    str,
    pydantic.Field(
        min_length=1,
        max_length=255,
        description=CUSTOM_ID_DESCRIPTION,
        json_schema_extra=NO_CONTROL_CHARACTERS,
        examples=["order-4711"],
    ),
    pydantic.AfterValidator(reject_control_characters),
]
Metadata = Annotated[
    dict[str, Any],
    pydantic.BeforeValidator(_parse_metadata),
    pydantic.Field(description=f"a JSON object of at most {MAX_METADATA_BYTES:,} bytes"),
]
