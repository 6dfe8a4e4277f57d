"""JSON values: strict parsing, compact encoding, timestamps as text, and messages about invalid values."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic_core import ErrorDetails

MAX_SHOWN_CHARACTERS = 100
MAX_DIGITS = 1_000
"""The most digits of a whole number; Python's own limit is 4,300."""


def error_message(
    name: str, error: ErrorDetails, expected: str | None = None, *, is_missing: bool | None = None
) -> str:
    """Format one of pydantic's errors as a sentence.

    Args:
        name: what the value is called.
        error: the error.
        expected: describes valid values, if pydantic's text does not.
        is_missing: whether there is no value, but a default that is not acceptable; by default, pydantic says it.
    """
    if error["type"] == "missing":
        return f"{name} is missing: it must be {expected}."
    if is_missing:
        return f"{name} is missing: {_reason(error, expected)}."
    shown = _shown(error["input"])
    shown = shown if len(shown) <= MAX_SHOWN_CHARACTERS else shown[:MAX_SHOWN_CHARACTERS] + "…"
    return f"{name}={shown} is not acceptable: {_reason(error, expected)}."


def _shown(value: Any) -> str:
    """Return a value as a caller may have written it: a text in quotes, everything else as JSON, if it can be."""
    if isinstance(value, str):
        return repr(value)
    try:
        return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _reason(error: ErrorDetails, expected: str | None) -> str:
    if error["type"] in ("bool_type", "bool_parsing"):
        return "it must be true or false"
    if error["type"] == "string_unicode":
        return "it must not contain half of a surrogate pair, such as \\ud800"
    if error["type"] == "string_too_long":
        return f"it is too long: it may have {error['ctx']['max_length']:,} characters"
    message = error["msg"].removeprefix("Value error, ")
    is_custom = message.startswith("it ")  # our own validators' messages are better
    return f"it must be {expected}" if expected and not is_custom else message[0].lower() + message[1:]


def parse_json(text: str) -> Any:
    """Parse JSON by the standard: without NaN, and not nested without end.

    Raises:
        ValueError: the text is not such JSON, or has a whole number of more than `MAX_DIGITS` digits.
    """
    try:
        return json.loads(text, parse_constant=_reject_constant, parse_int=_parse_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def encode_json(value: Any) -> bytes:
    """Encode a value as compact JSON and a newline, as Flask does: the prompt of a shell then begins a new line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _parse_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits, and may have {MAX_DIGITS:,}")
    return int(digits)


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def format_rfc3339(timestamp: datetime) -> str:
    """Format a timestamp as RFC 3339, in UTC, to the millisecond."""
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
