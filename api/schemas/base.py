"""Base classes of request schemas."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import pydantic

from api.schemas import validation_errors


class RequestModel(pydantic.BaseModel):
    """Parameters, form fields or a JSON body; unknown fields are rejected."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    example: ClassVar[str] = ""
    """A sentence with a complete body, where that helps a caller who sent a bad one."""

    @classmethod
    def parse(
        cls,
        values: Mapping[str, Any],
        names: validation_errors.FieldNames = validation_errors.FieldNames(),  # noqa: B008 (immutable)
    ) -> Self:
        """Validate values.

        Raises:
            errors.BadParameter: a value is not acceptable, missing, or unknown; its `faults` name each.
        """
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise validation_errors.to_bad_parameter(cls, error, values, names, cls.example) from None


class PageQuery(RequestModel):
    """A page of a list."""

    limit: int = pydantic.Field(
        default=100,
        ge=1,
        le=1000,
        description="a whole number from 1 to 1000; the most rows of a page (default: 100)",
        examples=[100],
    )


class NoFields(RequestModel):
    """A request without parameters or fields."""
