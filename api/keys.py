"""Keys: who may knock; for admins."""

from typing import Any

import flask

from api import asked, auth, shapes
from api.parts import parts
from jobs import errors, tables
from jobs.store import keys

blueprint = flask.Blueprint("keys", __name__, url_prefix="/v1/keys")


@blueprint.post("")
@auth.needs(tables.Role.ADMIN)
def create() -> tuple[dict[str, Any], int]:
    """Make a key; it is shown this once."""
    wanted = asked.Key.body()
    key = keys.make()
    row = parts().db.write(keys.create, wanted.name, wanted.role, key)
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
    if asked.id_of(id_) is None:
        raise errors.KeyNotFound
    return shapes.key(parts().db.write(keys.revoke, id_))
