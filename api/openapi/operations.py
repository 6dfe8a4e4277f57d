"""Decorator of views: describes an operation for the spec, checks the caller's role, and validates the query."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import flask

from api.http import auth, requests
from api.schemas import base
from core import enums

View = TypeVar("View", bound=Callable[..., Any])
JSON = "application/json"
ACCEPT_HINTS = {"format": "The Accept header selects the format, as in `Accept: text/csv`."}


@dataclass(frozen=True)
class Operation:
    """The description of a view, for the spec and for its checks.

    Attributes:
        response_type: the type of the response body, a TypedDict, or `str` or `bytes` for other media types.
        example: the arguments of curl besides the key, with `$URL` for the server.
        role: the role that the caller's key needs; None for any key.
        needs_global_read: whether the key must see the jobs of all keys.
        is_public: whether no key is needed.
        status: the status of the response.
        media_type: the media type of the response.
        other_responses: the types of other responses, by status; None for one without a body.
        problems: the codes of the operation's own problems, by status.
        body: the request body: a model of a JSON object; or schemas, or such a model, by media type.
        request_headers: OpenAPI schemas of the request headers that are read.
        response_headers: descriptions of the response headers.
        links: operations to which the response leads, each with its parameters as runtime expressions.
        media_types: other media types of the response, with a description each.
        descriptions: descriptions of responses, by status, where that of the type does not say enough.
        query: the model of the URL's parameters.
    """

    response_type: Any
    example: str
    role: enums.Role | None = None
    needs_global_read: bool = False
    is_public: bool = False
    status: int = 200
    media_type: str = JSON
    other_responses: Mapping[int, Any] = field(default_factory=dict)
    problems: Mapping[int, Sequence[str]] = field(default_factory=dict)
    body: type[base.RequestModel] | Mapping[str, Any] | None = None
    request_headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    response_headers: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    media_types: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[int, str] = field(default_factory=dict)
    query: type[base.RequestModel] = base.NoFields

    @property
    def responses(self) -> dict[int, Any]:
        """The types of all responses that are not problems, by status."""
        return {self.status: self.response_type, **self.other_responses}

    @property
    def bodies(self) -> Mapping[str, Any]:
        """The schemas or models of the request body by media type; empty without a body."""
        return self.body if isinstance(self.body, Mapping) else {JSON: self.body} if self.body else {}


def describe(response_type: Any, example: str, **options: Any) -> Callable[[View], View]:
    """Describe a view, and check requests before it runs; the arguments are those of `Operation`.

    The model of the URL's parameters is the annotation of the view's argument `query`, if it has one.
    """

    def decorator(view: View) -> View:
        takes_query = "query" in view.__annotations__
        operation = Operation(response_type, example, **options)
        operation = replace(operation, query=view.__annotations__["query"]) if takes_query else operation
        hints = ACCEPT_HINTS if operation.media_types else {}

        @functools.wraps(view)
        def checked(**path_parameters: str) -> Any:
            if operation.role is not None or operation.needs_global_read:
                auth.check_role(operation.role, needs_global_read=operation.needs_global_read)
            query = requests.parse_query(operation.query, hints)
            if operation.body is None and flask.request.is_json:
                requests.reject_body_fields()
            return view(**path_parameters, query=query) if takes_query else view(**path_parameters)

        checked.operation = operation  # type: ignore[attr-defined]  # for `operations`
        return cast("View", checked)

    return decorator


def operations(app: flask.Flask) -> dict[str, Operation]:
    """Return the described views of an app, by endpoint."""
    views = app.view_functions.items()
    return {endpoint: view.operation for endpoint, view in views if hasattr(view, "operation")}


@dataclass(frozen=True)
class Webhook:
    """A webhook that the server sends."""

    name: str
    payload_type: Any
    headers: Mapping[str, str]
