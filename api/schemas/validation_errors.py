"""Readable validation errors: one sentence and one fault (RFC 9457 `errors`) per wrong value."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from urllib import parse

import pydantic
from pydantic_core import ErrorDetails

from api.schemas import json_schema, unknown_fields
from core import errors, json_values

MAX_REPORTED_ERRORS = 10
EXPECTED_VALUE = re.compile(r"(?:[^;(`]|\([^)]*\)|`[^`]*`)*")
"""A description up to its first semicolon that is not in brackets or code."""


class FieldNames(NamedTuple):
    """How the values of a request are called in messages about unknown ones."""

    kind: str = "field"
    """The noun in messages, such as "parameter"."""
    also_known: Collection[str] = ()
    """Names that are known besides those of the model, such as the files of a form."""
    hints: Mapping[str, str] = {}
    """Advice by unknown name."""


def to_bad_parameter(
    model: type[pydantic.BaseModel],
    error: pydantic.ValidationError,
    values: Mapping[str, Any],
    names: FieldNames,
    example: str,
) -> errors.BadParameter:
    """Return the error for values that a model rejects; unknown names come first, since they may explain the rest."""
    unknown_names = [name for name in values if name not in model.model_fields]
    if unknown_names:
        return _unknown_names_error(unknown_names, [*names.also_known, *model.model_fields], names)
    line_errors = error.errors()
    faults = [_fault(model, line_error, values) for line_error in line_errors[:MAX_REPORTED_ERRORS]]
    remaining = len(line_errors) - len(faults)
    remainder = [f"There are {remaining:,} more errors."] if remaining else []
    return errors.BadParameter(" ".join([*(fault.detail for fault in faults), *remainder, example]).strip(), faults)


def _unknown_names_error(
    unknown_names: Sequence[str], known: Collection[str], names: FieldNames
) -> errors.BadParameter:
    detail = unknown_fields.unknown_message(names.kind, unknown_names, known)
    faults = [
        errors.Fault(_pointer((name,)), "unknown_field", f"{unknown_fields.quoted(name)} is not known.")
        for name in unknown_names[:MAX_REPORTED_ERRORS]
    ]
    hints = [hint for name, hint in names.hints.items() if name in unknown_names]
    return errors.BadParameter(" ".join([detail, *hints]), faults)


def _fault(model: type[pydantic.BaseModel], error: ErrorDetails, values: Mapping[str, Any]) -> errors.Fault:
    location = error["loc"]
    image = _image_name(location, values)
    if error["type"] == "extra_forbidden":
        *parent, name = location
        known_fields = json_schema.schema_at(model, tuple(parent))["properties"]
        place = f"in {_format_location(tuple(parent))}"
        detail = unknown_fields.unknown_message("field", [str(name)], known_fields, place)
        return errors.Fault(_pointer(location), "unknown_field", detail, image)
    is_missing = error["type"] == "missing" or (len(location) == 1 and location[0] not in values)
    expected = expected_value(json_schema.schema_at(model, location))
    detail = json_values.error_message(_format_location(location), error, expected, is_missing=is_missing)
    return errors.Fault(_pointer(location), "missing_field" if is_missing else "bad_value", detail, image)


def expected_value(schema: json_schema.Schema) -> str:
    """Return what a value must be: its description up to the semicolon, after which the documentation goes on."""
    match = EXPECTED_VALUE.match(schema.get("description", ""))
    return match[0] if match else ""


def _image_name(location: tuple[int | str, ...], values: Mapping[str, Any]) -> str | None:
    """Return the name of the image that a location such as `images[0].sha256` is in, if the request gives one."""
    if len(location) < 2 or location[0] != "images" or not isinstance(location[1], int):
        return None
    image = values["images"][location[1]]
    name = image.get("name") if isinstance(image, dict) else None
    return name if isinstance(name, str) else None


def _format_location(location: tuple[int | str, ...]) -> str:
    """Return a location as text, such as `images[0].sha256`."""
    first, *rest = location
    suffixes = [f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r:.100}]" for step in rest]
    return f"{first}{''.join(suffixes)}"


def _pointer(location: tuple[int | str, ...]) -> str:
    """Return a location as a JSON pointer in a URI fragment (RFC 6901), such as `#/images/0/sha256`."""
    steps = (str(step)[: unknown_fields.MAX_NAME_CHARACTERS].replace("~", "~0").replace("/", "~1") for step in location)
    return "#" + "".join("/" + parse.quote(step, errors="replace") for step in steps)  # not all JSON text is UTF-8
