"""API keys, for admins."""

import flask

from api.http import requests
from api.openapi.operations import describe
from api.schemas import ids, key_requests, key_responses
from api.services import container
from core import enums, errors
from core.db.queries import api_keys, quotas

blueprint = flask.Blueprint("keys", __name__, url_prefix="/v1/keys")


@blueprint.post("")
@describe(
    key_responses.NewKey,
    """-H "Content-Type: application/json" -d '{"name": "kitchen", "role": "submit"}' "$URL/v1/keys\"""",
    role=enums.Role.ADMIN,
    status=201,
    body=key_requests.NewKeyRequest,
    problems={409: ["key_name_taken"]},
    links={name: {"key_id": "$response.body#/id"} for name in ("keys.change", "keys.revoke")},
)
def create() -> tuple[key_responses.NewKey, int]:
    """Create a key; it is shown only in this response. Two valid keys never have the same name.

    It may expire, and may have quotas of its own: images and bytes that it may submit per minute, and that may be
    without a result at a time. Requests over a quota are rejected with 429 and `Retry-After`.
    """
    request = requests.parse_json_body(key_requests.NewKeyRequest)
    key, key_quotas = api_keys.generate(), quotas.Quotas.from_row(request)
    row = container.services().db.write(
        api_keys.create, request.name, request.role, key, expires_in=request.expires_in, key_quotas=key_quotas
    )
    return {**key_responses.serialize_key(row), "key": key}, 201


@blueprint.get("")
@describe(key_responses.Keys, '"$URL/v1/keys"', role=enums.Role.ADMIN)
def index() -> key_responses.Keys:
    """Return all keys, without their secrets."""
    return {"keys": [key_responses.serialize_key(row) for row in container.services().db.read(api_keys.list_all)]}


@blueprint.patch("/<key_id>")
@describe(
    key_responses.Key,
    """-H "Content-Type: application/json" -d '{"images_per_minute": 600}' "$URL/v1/keys/$KEY_ID\"""",
    role=enums.Role.ADMIN,
    body=key_requests.KeyUpdateRequest,
    problems={404: ["key_not_found"], 409: ["key_name_taken"]},
)
def change(key_id: str) -> key_responses.Key:
    """Change a key's name, expiry or quotas; absent fields stay as they are.

    It takes effect from the key's next request on; in other processes of the server, within ten seconds.
    """
    services = container.services()
    changes = requests.parse_json_body(key_requests.KeyUpdateRequest).provided_fields
    row = services.db.write(api_keys.update, ids.require_id(key_id, errors.KeyNotFound), changes)
    services.auth_cache.invalidate(key_id)
    return key_responses.serialize_key(row)


@blueprint.delete("/<key_id>")
@describe(key_responses.Key, '"$URL/v1/keys/$KEY_ID"', role=enums.Role.ADMIN, problems={404: ["key_not_found"]})
def revoke(key_id: str) -> key_responses.Key:
    """Revoke a key; repeating changes nothing. Other processes of the server may accept it for ten seconds more."""
    services = container.services()
    row = services.db.write(api_keys.revoke, ids.require_id(key_id, errors.KeyNotFound))
    services.auth_cache.invalidate(key_id)
    return key_responses.serialize_key(row)
