"""How a wrong value is told of: one sentence that names it, and what it must be."""

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
