"""Who is asking: every route wants a key, but those named here; views say which role they want."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import flask

from api.parts import Parts, parts
from jobs import errors, gate, tables
from jobs.store import keys, quotas

P = ParamSpec("P")
T = TypeVar("T")

OPEN = {"health.livez", "docs.page", "docs.openapi", "web.start", "web.asset"}
"""What needs no key: whether the process lives, how to use it, and a page to use it by. None tells of anybody."""


class NoKey(Exception):
    """No valid key came as `Authorization: Bearer KEY`: it is missing, mistyped, revoked or another server's."""


class NotAllowed(Exception):
    """This key's role does not allow that."""


class TooManyBadKeys(errors.Later):
    """Too many wrong keys came from this address."""

    code = "too_many_bad_keys"


def register(app: flask.Flask) -> None:
    """Ask for a key before every request, also one for a route that does not exist."""
    app.before_request(_ask)


def caller() -> keys.Caller:
    """Who is asking."""
    return cast("keys.Caller", flask.g.caller)


def quotas_of_caller() -> quotas.Quotas:
    """What they may hand in: by their key, and else by the settings."""
    return caller().limits.over(gate.quotas_by(parts().settings))


def needs(role: tables.Role) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A view for callers of at least this role."""

    def wrap(view: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if not caller().may(role):
                raise NotAllowed(f"This needs a key of the role {role}; yours has the role {caller().role}.")
            return view(*args, **kwargs)

        checked.role = role  # type: ignore[attr-defined]  # the document reads it
        return checked

    return wrap


def sees_all(view: Callable[P, T]) -> Callable[P, T]:
    """A view that tells of everybody's pictures: for callers who see them."""

    @functools.wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if caller().sees is not None:
            raise NotAllowed(f"This needs a key of the role read or admin; yours has the role {caller().role}.")
        return view(*args, **kwargs)

    checked.role = tables.Role.READ  # type: ignore[attr-defined]  # the document reads it
    return checked


def is_trusted(with_: Parts, address: str, key: str) -> bool:
    """Whether what the holder of this key sends may be kept while it comes; `_ask` decides on the request itself."""
    if with_.door.shut_seconds(address, key) is not None:
        return False
    try:
        return _holder(with_, key) is not None
    except errors.KeyExpired:
        return False
    except errors.Unavailable:
        return True  # it may well be good, and is told so when the database is back


def is_known(with_: Parts, address: str, key: str) -> bool:
    """Whether `is_trusted` would say so without asking the database."""
    return with_.door.holder(key) is not None and with_.door.shut_seconds(address, key) is None


def _holder(with_: Parts, key: str) -> keys.Caller | None:
    """Who holds a key, as the door knows or the database says."""
    found = with_.door.holder(key)
    if found is None and (found := with_.db.read(keys.caller, key)) is not None:
        with_.door.good(key, found)
    return found


def _ask() -> None:
    if flask.request.endpoint in OPEN:
        return
    given = flask.request.authorization
    key = given.token if given is not None and given.type == "bearer" else None
    if not key:
        raise NoKey("A key is needed: send it as `Authorization: Bearer KEY`.")
    door, address = parts().door, flask.request.remote_addr or ""
    seconds = door.shut_seconds(address, key)
    if seconds is not None:
        raise TooManyBadKeys("Too many wrong keys came from this address.", seconds)
    found = _holder(parts(), key)
    if found is None:
        door.bad(address, key)
        raise NoKey("This key is not valid: it is mistyped, revoked, or of another server.")
    flask.g.caller = found
