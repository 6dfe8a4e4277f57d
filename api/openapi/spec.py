"""The OpenAPI 3.1 document of an app, made from its routes, its described views and their schemas."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import flask
import pydantic
from werkzeug.routing import Rule

from api.openapi import error_codes, examples
from api.openapi.operations import JSON, Operation, Webhook, operations
from api.schemas import json_schema, problem
from core import enums
from sortbelt import version

PROBLEM_MEDIA_TYPE = "application/problem+json"
COMPONENT = "#/components/schemas/{model}"
PROBLEM_REF = {"$ref": COMPONENT.format(model="Problem")}
API_DESCRIPTION = (
    "Image classification in bulk: submit images, poll the job, read the results.\n\n"
    "Every operation needs an API key, as `Authorization: Bearer KEY`, unless it says otherwise; "
    "`sortbelt keys create` makes one. Errors are `application/problem+json` (RFC 9457) with a stable `code` and a "
    '`request_id`, which every response also has as `X-Request-ID`. Lists have a `Link` with `rel="next"` while there '
    "is more. Ids and cursors are opaque: take them from responses."
)
NOT_MODIFIED_DESCRIPTION = "unchanged since the ETag in `If-None-Match`; there is no body"
RETRY_AFTER_HEADER = {"Retry-After": "seconds after which a retry is worthwhile"}
COMMON_PROBLEMS = {400: ["no_websockets"], 404: ["not_found"], 405: ["method_not_allowed"]}
"""Problems of requests that are not for any operation."""
EXAMPLE_VARIABLES = {
    "URL": "the server",
    "KEY": "your key",
    "JOB": "the `id` of a job",
    "OTHER_JOB": "the `id` of another job",
    "RESULT": "the `id` of a result",
    "IMAGE": "the `image_id` of a result",
    "SHA": "the SHA-256 of an image's bytes, as `sha256sum` prints it",
    "MODEL": "the `name` of a model",
    "DELIVERY_ID": "the `id` of a webhook delivery",
    "KEY_ID": "the `id` of a key, which is not the key",
}
"""Shell variables in the examples."""
PATH_PARAMETERS = {
    "job_id": {"description": "the id of a job", "schema": {"type": "string"}},
    "name": {"description": "the name of a model", "schema": {"type": "string", "pattern": "^[a-z0-9._-]{1,100}$"}},
    "other_id": {"description": "the id of another job", "schema": {"type": "string"}},
    "result_id": {"description": "the id of a result", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
    "image_id": {"description": "the id of an image", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
    "delivery_id": {"description": "the id of a delivery", "schema": {"type": "string"}},
    "key_id": {"description": "the id of a key", "schema": {"type": "string"}},
}
# Schemas of what is not JSON.
PLAIN_SCHEMAS: dict[Any, dict[str, str]] = {str: {"type": "string"}, bytes: {"type": "string", "format": "binary"}}


def build_spec(app: flask.Flask, webhooks: Sequence[Webhook]) -> dict[str, Any]:
    """Return the document for the routes of an app and the webhooks that its jobs send."""
    described = operations(app)
    schemas = _component_schemas(described.values(), webhooks)
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for rule in app.url_map.iter_rules():
        if rule.endpoint in described:
            path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
            (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            view = app.view_functions[rule.endpoint]
            paths[path][method.lower()] = _operation(
                rule, path, method, described[rule.endpoint], str(view.__doc__), schemas
            )
    for operation in described.values():
        schemas.pop(operation.query.__name__, None)
    _add_meanings(schemas, paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sortbelt",
            "version": version.VERSION,
            "description": API_DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.partition(".")[0] for endpoint in described)],
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": dict(paths),
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "webhooks": {webhook.name: {"post": _webhook_operation(webhook)} for webhook in webhooks},
    }


def _component_schemas(described: Iterable[Operation], webhooks: Iterable[Webhook]) -> dict[str, Any]:
    """Return the schemas of all response, query, JSON body and webhook types by name."""
    described = list(described)
    types: list[Any] = [problem.Problem, *(webhook.payload_type for webhook in webhooks)]
    for operation in described:
        types += [kind for kind in operation.responses.values() if kind is not None and kind not in PLAIN_SCHEMAS]
        types.append(operation.query)
    adapters = [(kind.__name__, "validation", pydantic.TypeAdapter(kind)) for kind in dict.fromkeys(types)]
    _, document = pydantic.TypeAdapter.json_schemas(adapters, ref_template=COMPONENT)  # type: ignore[arg-type]  # a literal
    bodies = {body for operation in described for body in operation.bodies.values() if isinstance(body, type)}
    return {**document["$defs"]} | {
        body.__name__: json_schema.without_defaults(json_schema.body_schema(body))
        for body in sorted(bodies, key=lambda body: body.__name__)
    }


def _operation(
    rule: Rule, path: str, method: str, described: Operation, docstring: str, schemas: Mapping[str, Any]
) -> dict[str, Any]:
    summary, _, description = docstring.partition("\n\n")
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": rule.endpoint,
        "description": "\n\n".join(" ".join(part.split()) for part in description.split("\n\n")),
        "tags": [rule.endpoint.partition(".")[0]],
        "parameters": [*_parameters(rule, described, schemas)],
        "responses": _responses(path, described),
        "x-codeSamples": [{"lang": "Shell", "label": "curl", "source": _curl(method, described)}],
    }
    if described.is_public:
        operation["security"] = []
    if described.body is not None:
        operation["requestBody"] = {"required": True, "content": _body_content(described)}
    return operation


def _curl(method: str, described: Operation) -> str:
    method_option = "" if method in ("GET", "POST") else f" -X {method}"
    auth_option = "" if described.is_public else ' -H "Authorization: Bearer $KEY"'
    return f"curl{method_option}{auth_option} {described.example}"


def _parameters(rule: Rule, described: Operation, schemas: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the parameters of the path, the query and the headers."""
    for name in re.findall(r"<(\w+)>", rule.rule):
        yield {"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name]}
    query_schema = schemas[described.query.__name__]
    for name, field_schema in query_schema.get("properties", {}).items():
        schema = json_schema.without_defaults(json_schema.non_null(field_schema))
        is_json = schema.get("type") == "object"
        yield {
            "name": name,
            "in": "query",
            "required": name in query_schema.get("required", ()),
            "description": schema["description"],
            **({"content": {JSON: {"schema": schema}}} if is_json else {"schema": schema}),
        }
    for name, header_schema in described.request_headers.items():
        schema = {"type": "string", **header_schema}
        yield {"name": name, "in": "header", "schema": schema, "description": schema["description"]}


def _body_content(described: Operation) -> dict[str, Any]:
    return {
        media_type: {"schema": _schema_ref(body) if isinstance(body, type) else body["schema"]}
        for media_type, body in described.bodies.items()
    }


def _responses(path: str, described: Operation) -> dict[str, Any]:
    """Return all responses by status: those with the types of the operation, and its problems."""
    responses: dict[int, dict[str, Any]] = {}
    for status, response_type in described.responses.items():
        default = NOT_MODIFIED_DESCRIPTION if status == 304 else _first_line(response_type)
        responses[status] = {"description": described.descriptions.get(status, default)}
        if response_type is not None:
            media_type = described.media_type if status == described.status else JSON
            responses[status]["content"] = {media_type: {"schema": _schema_ref(response_type)}}
    success = responses[described.status]
    success["content"] |= {
        media_type: {"schema": {"type": "string", "description": description}}
        for media_type, description in described.media_types.items()
    }
    success["headers"] = _header_objects(described.response_headers)
    success["links"] = {
        name: {"operationId": name, "parameters": dict(parameters)} for name, parameters in described.links.items()
    }
    for status, codes in _all_problems(path, described).items():
        responses.setdefault(status, _problem(status, codes))
    return {str(status): responses[status] for status in sorted(responses)}


def _problem(status: int, codes: Sequence[str]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": ", ".join(f"`{code}`" for code in codes),
        "x-codes": codes,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": PROBLEM_REF}},
    }
    return response | ({"headers": _header_objects(RETRY_AFTER_HEADER)} if status in (429, 503) else {})


def _all_problems(path: str, described: Operation) -> dict[int, list[str]]:
    """Return the codes of an operation by status: its own, and those that follow from its path, role and body."""
    problems: defaultdict[int, list[str]] = defaultdict(list, {500: ["internal_error"]})
    if not described.is_public:
        problems[401] += ["no_key", "key_expired"]
        problems[429] += ["too_many_bad_keys"]
        problems[503] += ["database_unavailable"]
    if described.role is not None or described.needs_global_read:
        problems[403] += ["not_allowed"]
    if "{job_id}" in path:
        problems[404] += ["job_not_found"]
        problems[410] += ["job_purged"]
    problems[422] += ["bad_parameter"]  # if only because of an unknown parameter
    if described.body is not None:
        problems[400] += ["bad_request", "cut_off"]
        problems[408] += ["request_timeout"]
        problems[413] += ["body_too_large"]
        problems[503] += ["too_busy"]
    if described.media_types:
        problems[406] += ["not_acceptable"]
    for status, codes in described.problems.items():
        problems[status] += codes
    return problems


def _webhook_operation(webhook: Webhook) -> dict[str, Any]:
    headers = [
        {"name": name, "in": "header", "description": description, "required": True, "schema": {"type": "string"}}
        for name, description in webhook.headers.items()
    ]
    return {
        "operationId": webhook.name,
        "summary": webhook.payload_type.__doc__,
        "security": [],
        "parameters": headers,
        "requestBody": {"required": True, "content": {JSON: {"schema": _schema_ref(webhook.payload_type)}}},
        "responses": {
            "2XX": {"description": "It is not sent again."},
            "410": {"description": "No webhook of this job is sent again."},
        },
    }


def _add_meanings(schemas: dict[str, Any], paths: Mapping[str, Any]) -> None:
    """Add the meanings of enumerated values and of problem codes, and the examples of a job and of results."""
    for enum_class in enums.DescribedEnum.__subclasses__():
        if enum_class.__name__ in schemas:
            meanings = "; ".join(f"`{value}`: {meaning}" for value, meaning in enum_class.descriptions().items())
            schemas[enum_class.__name__] |= {
                "description": f"{enum_class.__doc__} {meanings}.",
                "x-about": enum_class.__doc__,
                "x-enumDescriptions": enum_class.descriptions(),
            }
    status_by_code = {code: status for status, codes in COMMON_PROBLEMS.items() for code in codes}
    for operation in (operation for methods in paths.values() for operation in methods.values()):
        for status, response in operation["responses"].items():
            status_by_code |= {code: int(status) for code in response.get("x-codes", ())}
    code_meanings = error_codes.meanings()
    schemas["Problem"]["properties"]["code"]["x-codes"] = {
        code: {"status": status, "meaning": code_meanings[code]}
        for code, status in sorted(status_by_code.items(), key=lambda item: (item[1], item[0]))
    }
    schemas["Job"]["examples"] = [examples.job()]
    schemas["Result"]["examples"] = examples.results()["results"]


def _schema_ref(response_type: Any) -> dict[str, Any]:
    return PLAIN_SCHEMAS.get(response_type) or {"$ref": COMPONENT.format(model=response_type.__name__)}


def _header_objects(descriptions: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"schema": {"type": "string"}, "description": description} for name, description in descriptions.items()
    }


def _first_line(described_type: Any) -> str:
    return str(described_type.__doc__).partition("\n")[0]
