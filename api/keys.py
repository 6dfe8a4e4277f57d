"""Keys: who may knock; for admins."""

from typing import Any

import flask

from api import auth, shapes
from api.parts import parts
from jobs import errors, tables
from jobs.store import keys

blueprint = flask.Blueprint("keys", __name__, url_prefix="/v1/keys")


@blueprint.post("")
@auth.needs(tables.Role.ADMIN)
def create() -> tuple[dict[str, Any], int]:
    """Make a key; it is shown this once."""
    body = flask.request.get_json(silent=True)
    name, role = (body.get("name"), body.get("role")) if isinstance(body, dict) else (None, None)
    if not isinstance(name, str) or not 0 < len(name) <= 255 or role not in list(tables.Role):
        roles = ", ".join(tables.Role)
        raise errors.BadParameter(f'Send {{"name": …, "role": …}}: a name of 1 to 255 characters, one role of {roles}.')
    key = keys.make()
    row = parts().db.write(keys.create, name, tables.Role(role), key)
    return {**shapes.key(row), "key": key}, 201


@blueprint.get("")
@auth.needs(tables.Role.ADMIN)
def index() -> dict[str, Any]:
    """All keys, without the keys."""
    return {"keys": [shapes.key(row) for row in parts().db.read(keys.page)]}


@blueprint.delete("/<id_>")
@auth.needs(tables.Role.ADMIN)
def revoke(id_: str) -> dict[str, Any]:
    """End a key."""
    return shapes.key(parts().db.write(keys.revoke, id_))
