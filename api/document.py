"""The description of the API, OpenAPI 3.1, made from the views: spectree reads what they ask, we add what they answer.

A view says `@document.call(shapes.Job, …)`: what it answers, which problems it has, what its body may be. What it asks
in the URL it says by an argument, `query: asked.Jobs`, which spectree checks before the view runs.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

import flask
import pydantic
import spectree
from spectree.plugins import flask_plugin
from typing_extensions import TypedDict

from api import asked, codes, examples, unknown
from jobs import tables, version

View = TypeVar("View", bound=Callable[..., Any])
PROBLEM = "application/problem+json"
ABOUT = (
    "Labels on pictures in bulk: send pictures, poll the job, read the results.\n\n"
    "Every call but those that say so wants a key, as `Authorization: Bearer KEY`; `sortbelt keys create` makes one. "
    "Errors are `application/problem+json` (RFC 9457) with a stable `code` and a `request_id`, which every answer has "
    'as `X-Request-ID` too. Lists have a `Link` with `rel="next"` while there is more. Ids and cursors are opaque: '
    "take them from answers."
)
QUERY = "Query"
FORMS = "The header Accept chooses the form, as in `Accept: text/csv`."
UNCHANGED = "it is as `If-None-Match` has it; there is no body"
WHEN = {"Retry-After": "seconds after which another try may be worthwhile"}
EVERYWHERE = {404: ["not_found"], 405: ["method_not_allowed"]}
"""Problems that are no call's: they answer what is none."""
VARIABLES = {
    "URL": "the server",
    "KEY": "your key",
    "JOB": "the `id` of a job",
    "OTHER_JOB": "that of another one",
    "RESULT": "the `id` of a result",
    "IMAGE": "the `image_id` of a result",
    "SHA": "the SHA-256 of a picture's bytes, as `sha256sum` prints it",
    "MODEL": "the `name` of a model",
    "DELIVERY_ID": "the `id` of a webhook's delivery",
    "KEY_ID": "the `id` of a key, which is not the key",
}
"""What stands for what in examples."""
PATHS = {
    "job_id": {"description": "a job's id", "schema": {"type": "string", "format": "uuid"}},
    "name": {"description": "a model's name", "schema": {"type": "string", "pattern": "^[a-z0-9._-]{1,100}$"}},
    "other_id": {"description": "another job's id", "schema": {"type": "string", "format": "uuid"}},
    "result_id": {"description": "a result's id", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
    "image_id": {"description": "a picture's id", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
    "delivery_id": {"description": "a delivery's id", "schema": {"type": "string", "format": "uuid"}},
    "key_id": {"description": "a key's id", "schema": {"type": "string", "format": "uuid"}},
}


class Problem(TypedDict):
    """What went wrong (RFC 9457)."""

    type: Annotated[str, pydantic.Field(description="the code as a URN")]
    title: Annotated[str, pydantic.Field(description="what HTTP calls the status")]
    status: Annotated[int, pydantic.Field(description="that of the answer")]
    code: Annotated[str, pydantic.Field(description="stable, for machines; `x-codes` are all")]
    detail: Annotated[str, pydantic.Field(description="a sentence for people, which may change")]
    request_id: Annotated[str, pydantic.Field(description="what the server's log has it under")]


@dataclass(frozen=True)
class Call:
    """What is to be said of a view besides its signature.

    Attributes:
        answer: the type of what it answers with.
        example: what to give to curl besides the key, with `$URL` for the server.
        status: of the answer.
        media: the type of the answer, where it is not JSON.
        also: the types of other answers by their status.
        problems: the codes of its own problems by their status, besides those that every call may have.
        body: the media types that the body may have, each with an OpenAPI schema.
        headers: request headers that it heeds, each with an OpenAPI schema of its text.
        answered: headers of the answer, with what each says.
        links: the operations that the answer leads to, by name, each with `parameter: pointer`.
        forms: media types in which the answer may come besides JSON, with what each is.
        says: what an answer is, by its status, where the type does not say enough.
        open: whether it wants no key.
    """

    answer: Any
    example: str
    status: int = 200
    media: str = "application/json"
    also: Mapping[int, Any] = field(default_factory=dict)
    problems: Mapping[int, Sequence[str]] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answered: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[int, str] = field(default_factory=dict)
    open: bool = False


class _Plugin(flask_plugin.FlaskPlugin):
    """Spectree for Flask, but a request is checked for what its view asks and for nothing else.

    An answer goes out as it is: mypy has checked its type, and a stream must stay one.
    """

    def validate(self, func: Any, query: type[asked.Asked] | None, *_: Any, **kwargs: Any) -> Any:
        if query is not None:
            given = flask.request.args.lists()
            kwargs["query"] = query.read({name: all_ if len(all_) > 1 else all_[0] for name, all_ in given})
        return func(**kwargs)


def _name(model: Any) -> str:
    return f"{QUERY}{model.__name__}" if model.__module__ == asked.__name__ else str(model.__name__)


_calls: dict[str, Call] = {}
_events: dict[str, tuple[Any, Mapping[str, str]]] = {}
_queries: dict[str, type[asked.Asked]] = {}
_tree = spectree.SpecTree(
    backend=_Plugin,
    naming_strategy=lambda model: _name(cast("Any", model)),
    nested_naming_strategy=lambda _, child: child,
    mode="strict",
)


def call(answer: Any, example: str, **more: Any) -> Callable[[View], View]:
    """A view that is described; the arguments are those of `Call`."""

    def wrap(view: View) -> View:
        made = Call(answer, example, **more)
        module = view.__module__.rpartition(".")[2]
        name = f"{module}.{view.__name__}"
        _calls[name] = made
        if "query" in view.__annotations__:
            _queries[name] = view.__annotations__["query"]
        described = _tree.validate(
            resp=spectree.Response(
                **{
                    f"HTTP_{status}": kind and _model(kind)
                    for status, kind in {made.status: answer, **made.also}.items()
                }
            ),
            operation_id=name,
            tags=[module],
            skip_validation=name not in _queries,
        )
        asked_rightly = described(view)

        @functools.wraps(asked_rightly)
        def known(*args: Any, **kwargs: Any) -> Any:
            _refuse_unknown(name)
            return asked_rightly(*args, **kwargs)

        return cast("View", known)

    return wrap


def _refuse_unknown(name: str) -> None:
    """Refuse what a call does not know, before its view is asked."""
    request, query = flask.request, _queries.get(name)
    hints = {"format": FORMS} if _calls[name].forms else {}
    unknown.refuse("parameter", request.args, query.model_fields if query else (), hints)
    unknown.refuse_repeated("parameter", request.args.to_dict(flat=False))
    if not _calls[name].body and request.is_json:
        said = request.get_json(silent=True)
        unknown.refuse("field", said if isinstance(said, dict) else (), ())


def event(name: str, told: Any, headers: Mapping[str, str]) -> None:
    """A webhook that is described: what it tells, and headers that it has, with what each says."""
    _events[name] = told, headers


def _model(answer: Any) -> Any:
    return type(answer.__name__, (pydantic.RootModel[answer],), {"__doc__": answer.__doc__})


def made() -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = _tree._generate_spec()  # noqa: SLF001 (its `spec` would keep the first application's)
    document["info"] = {
        "title": "Sortbelt",
        "version": version.VERSION,
        "description": ABOUT,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
    document["servers"] = [{"url": "/"}]
    document["security"] = [{"key": []}]
    components = document["components"]
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    inner = ("ValidationError", QUERY)  # what spectree says of errors is not what we say; queries stand at their calls
    schemas = {name: schema for name, schema in components["schemas"].items() if not name.startswith(inner)}
    components["schemas"] = schemas | {"Problem": pydantic.TypeAdapter(Problem).json_schema()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _finish(operation, path, method)
    document["webhooks"] = {name: {"post": _told(name, components["schemas"])} for name in _events}
    _explain(components["schemas"], document["paths"])
    return document


def _explain(schemas: dict[str, Any], paths: Mapping[str, Any]) -> None:
    """Say what the values of enumerations and the codes of problems mean, and what a job and a result look like."""
    for kind in filter(lambda kind: kind.__name__ in schemas, tables.Told.__subclasses__()):
        means = "; ".join(f"`{value}`: {meaning}" for value, meaning in kind.meanings().items())
        schemas[kind.__name__] |= {
            "description": f"{kind.__doc__} {means}.",
            "x-about": kind.__doc__,
            "x-enumDescriptions": kind.meanings(),
        }
    said: dict[str, int] = {code: status for status, some in EVERYWHERE.items() for code in some}
    for operation in (operation for operations in paths.values() for operation in operations.values()):
        said |= {code: int(status) for status, one in operation["responses"].items() for code in one.get("x-codes", ())}
    meanings = codes.meanings()
    schemas["Problem"]["properties"]["code"]["x-codes"] = {
        code: {"status": status, "meaning": meanings[code]}
        for code, status in sorted(said.items(), key=lambda one: (one[1], one[0]))
    }
    schemas["Job"]["examples"] = [examples.job()]
    schemas["Result"]["examples"] = examples.results()["results"]


def _told(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    told, headers = _events[name]
    schema = pydantic.TypeAdapter(told).json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**schema.pop("$defs"), told.__name__: schema}
    fields = [{"name": header, "in": "header", "description": says} for header, says in headers.items()]
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{told.__name__}"}}}
    return {
        "operationId": name,
        "summary": told.__doc__,
        "security": [],
        "parameters": [{**one, "required": True, "schema": {"type": "string"}} for one in fields],
        "requestBody": {"required": True, "content": content},
        "responses": {"2XX": {"description": "It is not sent again."}, "410": {"description": "Nor is it after this."}},
    }


def _finish(operation: dict[str, Any], path: str, method: str) -> None:
    about = _calls[operation["operationId"]]
    asks = "".join(f" {word}" for word in (["-X", method.upper()] if method not in ("get", "post") else []))
    key = "" if about.open else ' -H "Authorization: Bearer $KEY"'
    example = f"curl{asks}{key} {about.example}"
    operation["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": example}]
    if about.open:
        operation["security"] = []
    for parameter in operation["parameters"]:
        parameter.update(PATHS.get(parameter["name"], {}) if parameter["in"] == "path" else {})
        parameter["schema"] = schema = asked.given(parameter["schema"])
        if schema.get("type") == "object":  # in a URL it is JSON
            parameter["content"] = {"application/json": {"schema": parameter.pop("schema")}}
    operation["parameters"] += [
        {"name": name, "in": "header", "schema": {"type": "string", **kind}, "description": kind["description"]}
        for name, kind in about.headers.items()
    ]
    if about.body:
        operation["requestBody"] = {"required": True, "content": dict(about.body)}
    operation["responses"].pop("422", None)  # spectree's own shape, which is not ours
    good = operation["responses"][str(about.status)]
    for status in (about.status, *about.also):
        kind = about.answer if status == about.status else about.also[status]
        told = about.says.get(status) or (UNCHANGED if status == 304 else _first_line(kind))
        operation["responses"][str(status)]["description"] = told
    if about.media != "application/json":
        good["content"] = {about.media: good["content"].popitem()[1]}
    good["content"] |= {form: {"schema": {"type": "string", "description": says}} for form, says in about.forms.items()}
    good["headers"] = _headers(about.answered)
    good["links"] = {
        name: {"operationId": name, "parameters": dict(parameters)} for name, parameters in about.links.items()
    }
    problems = {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in codes_),
            "x-codes": codes_,
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **({"headers": _headers(WHEN)} if status in (429, 503) else {}),
        }
        for status, codes_ in _problems(operation, about, path).items()
        if status not in about.also
    }
    operation["responses"] = dict(sorted({**operation["responses"], **problems}.items()))


def _headers(said: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}, "description": description} for name, description in said.items()}


def _first_line(kind: Any) -> str:
    return str(kind.__doc__).partition("\n")[0]


def _problems(operation: dict[str, Any], about: Call, path: str) -> dict[int, list[str]]:
    """All problems that a call may have: its own, and those that follow from what it is."""
    found: dict[int, list[str]] = {500: ["internal_error"]}

    def add(status: int, *some: str) -> None:
        found[status] = [*found.get(status, []), *some]

    if not about.open:
        add(401, "no_key", "key_expired")
        add(429, "too_many_bad_keys")
        add(503, "database_unavailable")
    if hasattr(flask.current_app.view_functions[operation["operationId"]], "role"):
        add(403, "not_allowed")
    if "{job_id}" in path:
        add(404, "job_not_found")
        add(410, "job_purged")
    add(422, "bad_parameter")  # if only because of a parameter that it does not know
    if about.body:
        add(400, "bad_request", "cut_off")
        add(408, "request_timeout")
        add(413, "body_too_large")
        add(503, "too_busy")
    if about.forms:
        add(406, "not_acceptable")
    for status, some in about.problems.items():
        add(status, *some)
    return found
