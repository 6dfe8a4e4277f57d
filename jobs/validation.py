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
    message = error["msg"].removeprefix("Value error, ")
    reason = f"it must be {wanted}" if wanted else message[0].lower() + message[1:]
    return f"{name}={shown} is not acceptable: {reason}."


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
