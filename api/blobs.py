"""Bytes that were sent before: they need not be sent again."""

import flask

from api import asked, auth, document, shapes
from api.parts import parts
from jobs import tables
from jobs.store import blobs

blueprint = flask.Blueprint("blobs", __name__, url_prefix="/v1/blobs")
EXAMPLE = """-H "Content-Type: application/json" -d '{"sha256": ["'$SHA'"]}' "$URL/v1/blobs/check\""""


@blueprint.post("/check")
@auth.needs(tables.Role.SUBMIT)
@document.call(shapes.Digests, EXAMPLE, body=asked.Digests.described())
def check() -> shapes.Digests:
    """Which of these SHA-256 you have sent before: such pictures can be ordered by name and digest alone.

    Only what was sent with your own key counts: nobody learns what others have.
    """
    wanted = list(dict.fromkeys(asked.Digests.body().sha256))
    known = parts().db.read(blobs.known, auth.caller().id, wanted)
    return {
        "known": [sha256 for sha256 in wanted if sha256 in known],
        "missing": [sha256 for sha256 in wanted if sha256 not in known],
    }
