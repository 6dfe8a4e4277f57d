"""Format pydantic's errors for a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pydantic


def first_error(error: pydantic.ValidationError) -> str:
    """Return the first problem as "FIELD: what is wrong, not VALUE"."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] == "unexpected_keyword_argument":
        return f"{field} is unknown"
    if problem["type"] == "value_error":
        return f"{field}: {message}" if field else message
    return f"{field}: {message}, not {problem['input']!r:.100}" if field else message
