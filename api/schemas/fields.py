"""Field types that several response schemas share, and how timestamps are written."""

from datetime import datetime
from typing import Annotated, Any, TypeVar, cast, overload

import pydantic

from core import enums
from core.json_values import format_rfc3339

T = TypeVar("T")


def doc(description: str, **options: Any) -> Any:
    """Return the annotation of a field with a description in the OpenAPI document."""
    return pydantic.Field(description=description, **options)


Count = Annotated[int, pydantic.Field(ge=0)]
Timestamp = Annotated[
    str, pydantic.Field(json_schema_extra={"format": "date-time"}, examples=["2026-01-31T12:00:00.000Z"])
]
Id = Annotated[str, pydantic.Field(examples=["019a0000-0000-7000-8000-000000000000"])]
Url = Annotated[str, pydantic.Field(json_schema_extra={"format": "uri"})]
HOST_ONLY_NOTE = "; a key of the role read sees only its host, because the rest may be a secret"
PRIORITY_DESCRIPTION = "`interactive` is processed before `bulk`"


def describe_values(enum_class: type[enums.DescribedEnum], *only: str) -> str:
    """Return the meanings of the values of an enumeration, or of some of them, in one sentence."""
    return "; ".join(
        f"`{value}`: {meaning}" for value, meaning in enum_class.descriptions().items() if not only or value in only
    )


def timestamps(*values: datetime | None) -> list[str | None]:
    """Return RFC 3339 in UTC for each timestamp; None for None. One call of a submission instead of seven."""
    return [None if value is None else format_rfc3339(value) for value in values]


@overload
def timestamp(value: datetime) -> str: ...
@overload
def timestamp(value: None) -> None: ...
@overload
def timestamp(value: datetime | None) -> str | None: ...
def timestamp(value: datetime | None) -> str | None:
    """Return RFC 3339 in UTC with milliseconds; None for None."""
    return None if value is None else format_rfc3339(value)


def from_row(kind: type[T], row: Any, prefix: str = "", **others: Any) -> T:
    """Return a response whose fields are the columns of their names after a prefix, or given as `others`."""
    values = {name: others[name] if name in others else getattr(row, prefix + name) for name in kind.__annotations__}
    return cast("T", {name: timestamp(v) if isinstance(v, datetime) else v for name, v in values.items()})
