"""JSON schemas of request models, in the form that OpenAPI and the error messages need."""

import functools
from collections.abc import Mapping
from typing import Any, cast

import pydantic

Schema = dict[str, Any]
ANNOTATIONS = ("description", "examples", "default")


@functools.cache
def body_schema(model: type[pydantic.BaseModel]) -> Schema:
    """Return the schema of a JSON body, without references."""
    return cast("Schema", _inline_refs(model.model_json_schema()))


@functools.cache
def form_schema(model: type[pydantic.BaseModel]) -> Schema:
    """Return the schema of a form, whose fields are absent instead of null."""
    schema = model.model_json_schema()
    return {**schema, "properties": {name: non_null(field) for name, field in schema["properties"].items()}}


def non_null(schema: Schema) -> Schema:
    """Return the schema of a field that is present: without the null that stands for an absent one."""
    alternatives = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    annotations = {name: schema[name] for name in ANNOTATIONS if schema.get(name) is not None}
    return {**alternatives[0], **annotations} if len(alternatives) == 1 else schema


def without_defaults(schema: Any) -> Any:
    """Return a schema without defaults: generated clients would send them, in spellings of their own.

    The descriptions say what is done without a value. No parameter or field is named `default`.
    """
    if isinstance(schema, list):
        return [without_defaults(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: without_defaults(item) for name, item in schema.items() if name != "default"}


def schema_at(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> Schema:
    """Return the schema of the value at a location in a body."""
    schema: Any = body_schema(model)
    for step in location:
        properties = schema.get("properties", {})
        schema = non_null(
            properties[step] if step in properties else schema.get("items") or schema.get("additionalProperties")
        )
    return cast("Schema", schema)


def _inline_refs(schema: Any, definitions: Mapping[str, Any] | None = None) -> Any:
    if isinstance(schema, list):
        return [_inline_refs(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    definitions = schema.get("$defs", definitions) or {}
    inlined = {name: _inline_refs(item, definitions) for name, item in schema.items() if name not in ("$defs", "$ref")}
    if "$ref" not in schema:
        return inlined
    # Keywords beside a reference belong to this use of the definition, and are more specific.
    return {**_inline_refs(definitions[schema["$ref"].rpartition("/")[2]], definitions), **inlined}
