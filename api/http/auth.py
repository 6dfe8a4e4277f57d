"""API-key authentication for every route except `PUBLIC_ENDPOINTS`, and role checks for views."""

import dataclasses
import functools
from typing import cast

import flask

from api.services.container import Services
from core import enums, errors
from core.db.queries import api_keys

PUBLIC_ENDPOINTS = {
    "health.livez",
    "docs.page",
    "docs.openapi",
    "swagger_ui.page",
    "swagger_ui.asset",
    "web.start",
    "web.asset",
    "images.linked",
}
"""Routes without a key: liveness, the documentation and the web page, none of which shows any caller's data; and the
thumbnail of a signed link."""


class NotAuthenticated(errors.ClientError):
    """No valid key came as `Authorization: Bearer KEY`: it is missing, mistyped, revoked or another server's."""

    code = "no_key"


class PermissionDenied(errors.ClientError):
    """This key's role does not allow that."""

    code = "not_allowed"


class TooManyFailedLogins(errors.TemporarilyRejected):
    """This address sent too many invalid keys in a minute; send a valid key."""

    code = "too_many_bad_keys"


def register(app: flask.Flask, services: Services) -> None:
    """Require a key for every request, also for one to a route that does not exist."""
    app.before_request(functools.partial(_authenticate, services))


def caller() -> api_keys.Caller:
    """Return the caller of the request; its quotas have the server's defaults where the key has none."""
    return cast("api_keys.Caller", flask.g.caller)


def check_role(role: enums.Role | None, *, needs_global_read: bool) -> None:
    """Check that the caller has a role, and with `needs_global_read` that it sees the jobs of all keys.

    Raises:
        PermissionDenied: it has not.
    """
    identity = caller()
    if role is not None and not identity.has_role(role):
        raise PermissionDenied(f"This needs a key of the role {role}; yours has the role {identity.role}.")
    if needs_global_read and identity.visible_owner is not None:
        raise PermissionDenied(
            f"This needs a key of the role read, review or admin; yours has the role {identity.role}."
        )


def is_authorized(services: Services, address: str, key: str) -> bool:
    """Return whether a body that comes with this key may be buffered; `_authenticate` decides on the request itself."""
    try:
        return _find_caller(services, address, key) is not None
    except (errors.KeyExpired, TooManyFailedLogins):
        return False
    except errors.ServiceUnavailable:
        return True  # the key may be valid: the view answers when the database is back


def is_cached(services: Services, key: str) -> bool:
    """Return whether the key is in the cache of valid keys: `is_authorized` is then true without a database query."""
    return services.auth_cache.get(key) is not None


def _authenticate(services: Services) -> None:
    request = flask.request
    if request.endpoint in PUBLIC_ENDPOINTS:
        return
    authorization = request.authorization
    key = authorization.token if authorization is not None and authorization.type == "bearer" else None
    if not key:
        raise NotAuthenticated("A key is needed: send it as `Authorization: Bearer KEY`.")
    address = request.remote_addr or ""
    identity = _find_caller(services, address, key)
    if identity is None:
        services.auth_cache.record_failure(address, key)
        raise NotAuthenticated("This key is not valid: it is mistyped, revoked, or of another server.")
    flask.g.caller = identity


def _find_caller(services: Services, address: str, key: str) -> api_keys.Caller | None:
    """Return the caller with this key, from the cache or the database; None if the key is not valid.

    Raises:
        TooManyFailedLogins: the address sent too many invalid keys; cached keys still work.
        errors.KeyExpired: the key has expired.
        errors.DatabaseUnavailable: the database does not answer.
    """
    if (cached := services.auth_cache.get(key)) is not None:
        return cached
    blocked_seconds = services.auth_cache.blocked_for(address, key)
    if blocked_seconds is not None:
        raise TooManyFailedLogins(
            "This address sent too many invalid keys in a minute; send a valid key.", blocked_seconds
        )
    identity = services.db.read(api_keys.authenticate, key)
    if identity is not None:
        key_quotas = identity.key_quotas.with_defaults(services.default_quotas)
        identity = dataclasses.replace(identity, key_quotas=key_quotas)
        services.auth_cache.put(key, identity)
    return identity
