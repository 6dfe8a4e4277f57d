"""How what strangers send is read, and how a wrong value is told of: one sentence that names it."""

import json
from typing import Any

from pydantic_core import ErrorDetails

MOST_SHOWN = 100


def sentence(name: str, error: ErrorDetails, wanted: str | None = None) -> str:
    """One sentence for one of pydantic's errors; `wanted` says what the value must be, if its own words do not."""
    if error["type"] == "missing":
        return f"{name} is missing: it must be {wanted}."
    shown = repr(error["input"])
    shown = shown if len(shown) <= MOST_SHOWN else shown[:MOST_SHOWN] + "…"
    return f"{name}={shown} is not acceptable: {_reason(error, wanted)}."


def _reason(error: ErrorDetails, wanted: str | None) -> str:
    if error["type"] == "bool_type":
        return "it must be true or false"
    if error["type"] == "string_too_long":
        return f"it is too long: it may have {error['ctx']['max_length']:,} characters"
    message = error["msg"].removeprefix("Value error, ")
    ours = message.startswith("it ")  # a validator of ours knows best
    return f"it must be {wanted}" if wanted and not ours else message[0].lower() + message[1:]


def parse(text: str) -> Any:
    """JSON as the standard has it: no NaN, no endless nesting.

    Raises:
        ValueError: it is not.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
