"""Who is asking: every route wants a key, but those named here; views say which role they want."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import flask

from api.parts import parts
from jobs import tables
from jobs.store import keys

P = ParamSpec("P")
T = TypeVar("T")

OPEN = {"health.livez"}


class NoKey(Exception):
    """Send a valid key as `Authorization: Bearer KEY`."""


class NotAllowed(Exception):
    """This key's role does not allow that."""


def register(app: flask.Flask) -> None:
    """Ask for a key before every request, also one for a route that does not exist."""
    app.before_request(_ask)


def caller() -> keys.Caller:
    """Who is asking."""
    return cast("keys.Caller", flask.g.caller)


def needs(role: tables.Role) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A view for callers of at least this role."""

    def wrap(view: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if not caller().may(role):
                raise NotAllowed(f"This needs a key of the role {role}; yours has the role {caller().role}.")
            return view(*args, **kwargs)

        return checked

    return wrap


def _ask() -> None:
    if flask.request.endpoint in OPEN:
        return
    given = flask.request.authorization
    key = given.token if given is not None and given.type == "bearer" else None
    if not key:
        raise NoKey("A key is needed: send it as `Authorization: Bearer KEY`.")
    found = parts().db.read(keys.caller, key)
    if found is None:
        raise NoKey("This key is not valid: it is mistyped, revoked, or of another server.")
    flask.g.caller = found
