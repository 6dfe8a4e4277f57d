"""Keys: who may knock; for admins."""

import flask

from api import asked, auth, document, shapes
from api.parts import parts
from jobs import errors, tables
from jobs.store import keys, quotas

blueprint = flask.Blueprint("keys", __name__, url_prefix="/v1/keys")


@blueprint.post("")
@auth.needs(tables.Role.ADMIN)
@document.call(
    shapes.NewKey,
    """-H "Content-Type: application/json" -d '{"name": "kitchen", "role": "submit"}' "$URL/v1/keys\"""",
    status=201,
    body=asked.Key.described(),
    links={name: {"key_id": "$response.body#/id"} for name in ("keys.change", "keys.revoke")},
)
def create() -> tuple[shapes.NewKey, int]:
    """Make a key; it is shown this once.

    It may have an end and quotas of its own: pictures and bytes that it may hand in a minute, and that may be without a
    result at a time. What goes beyond is answered with 429 and `Retry-After`.
    """
    wanted = asked.Key.body()
    key, own = keys.make(), quotas.Quotas.of(wanted)
    row = parts().db.write(keys.create, wanted.name, wanted.role, key, expires_in=wanted.expires_in, own=own)
    return {**shapes.key(row), "key": key}, 201


@blueprint.get("")
@auth.needs(tables.Role.ADMIN)
@document.call(shapes.Keys, '"$URL/v1/keys"')
def index() -> shapes.Keys:
    """All keys, without the keys."""
    return {"keys": [shapes.key(row) for row in parts().db.read(keys.page)]}


@blueprint.patch("/<key_id>")
@auth.needs(tables.Role.ADMIN)
@document.call(
    shapes.Key,
    """-H "Content-Type: application/json" -d '{"images_per_minute": 600}' "$URL/v1/keys/$KEY_ID\"""",
    body=asked.KeyChange.described(),
    problems={404: ["key_not_found"]},
)
def change(key_id: str) -> shapes.Key:
    """Change a key's name, end or quotas; what is not named stays.

    In force from its next request on; in other processes that serve, within ten seconds.
    """
    wanted = asked.KeyChange.body().given
    row = parts().db.write(keys.change, _id(key_id), wanted)
    parts().door.doubt(key_id)
    return shapes.key(row)


@blueprint.delete("/<key_id>")
@auth.needs(tables.Role.ADMIN)
@document.call(shapes.Key, '"$URL/v1/keys/$KEY_ID"', problems={404: ["key_not_found"]})
def revoke(key_id: str) -> shapes.Key:
    """End a key; again changes nothing. Other processes that serve may take it for good for ten seconds more."""
    row = parts().db.write(keys.revoke, _id(key_id))
    parts().door.doubt(key_id)
    return shapes.key(row)


def _id(given: str) -> str:
    if asked.id_of(given) is None:
        raise errors.KeyNotFound
    return given
