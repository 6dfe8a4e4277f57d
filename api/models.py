"""Models: which versions there are, and which one answers; changes are for admins."""

from typing import Any

import flask

from api import asked, auth, document, pages, shapes, uploads
from api.parts import parts
from jobs import bundles, errors, tables
from jobs.store import models, shadows, workers

PATH = "/v1/models"
blueprint = flask.Blueprint("models", __name__, url_prefix=PATH)
NAMED = f"$URL{PATH}/$MODEL"
JSON = '-H "Content-Type: application/json"'
NONE = {404: ["model_not_found"]}


@blueprint.get("")
@document.call(shapes.Versions, f'"$URL{PATH}"')
def index() -> shapes.Versions:
    """All versions, by name, the newest of each first."""
    living = parts().db.read(workers.living)
    return {"models": [shapes.model(row, living) for row in parts().db.read(models.page)]}


@blueprint.post("")
@auth.needs(tables.Role.ADMIN)
@document.call(
    shapes.Version,
    f'-F files=@model.json -F files=@weights.safetensors -F files=@CARD.md "$URL{PATH}"',
    status=201,
    also={200: shapes.Version},
    says={200: "the version, which was there already", 201: "the version, which is new"},
    body=uploads.BUNDLE,
    problems={409: ["version_taken"], 422: ["bad_bundle"], 503: ["blobs_unavailable"]},
)
def add() -> tuple[shapes.Version, int]:
    """Take in a bundle as a version that is served only when it is promoted; again changes nothing."""
    row, new = bundles.take_in(parts().db, parts().blobs, uploads.bundle(), auth.caller().id)
    return _shown(row), 201 if new else 200


@blueprint.post("/<name>/promote")
@auth.needs(tables.Role.ADMIN)
@document.call(
    shapes.Version,
    f"""{JSON} -d '{{"version": "2"}}' "{NAMED}/promote\"""",
    body=asked.Version.described(),
    problems=NONE,
)
def promote(name: str) -> shapes.Version:
    """Make a version the live one."""
    wanted = asked.Version.body()
    return _shown(parts().db.write(models.promote, _name(name), wanted.version, auth.caller().id))


@blueprint.post("/<name>/rollback")
@auth.needs(tables.Role.ADMIN)
@document.call(shapes.Version, f'-X POST "{NAMED}/rollback"', problems={**NONE, 409: ["nothing_before"]})
def rollback(name: str) -> shapes.Version:
    """Make the version live again that was so before."""
    return _shown(parts().db.write(models.rollback, _name(name), auth.caller().id))


@blueprint.post("/<name>/shadow")
@auth.needs(tables.Role.ADMIN)
@document.call(
    shapes.Version,
    f"""{JSON} -d '{{"version": "2", "share": 0.1}}' "{NAMED}/shadow\"""",
    body=asked.Shadow.described(),
    problems={**NONE, 409: ["is_live"]},
)
def shadow(name: str) -> shapes.Version:
    """Let a version judge a share of the pictures beside the live one, without a say."""
    wanted = asked.Shadow.body()
    return _shown(parts().db.write(models.shadow, _name(name), wanted.version, wanted.share))


@blueprint.get("/compare")
@auth.sees_all
@document.call(
    shapes.Comparison, f'-G -d a=$MODEL@1 -d b=$MODEL@2 "$URL{PATH}/compare"', answered=pages.ANSWERED, problems=NONE
)
def compare(query: asked.Comparison) -> flask.Response:
    """Where two versions agree, and the pictures on which they do not, those first of which both are surest."""
    a, b = (parts().db.read(models.version, *version) for version in query.versions)
    read = parts().db.read
    pairs, failed = read(shadows.confusion, a, b), {"a": read(shadows.errors, a.id), "b": read(shadows.errors, b.id)}
    rows = read(shadows.disagreements, a, b, limit=query.limit, after=query.after_pair)
    beside = shapes.agreement(a, b, pairs, failed)
    key = lambda row: f"{row.sure!r}_{row.image_id}"  # noqa: E731 (as short as the others)
    return pages.answer("disagreements", query, rows, shapes.disagreement, key, beside)


def _name(given: str) -> str:
    if not asked.is_slug(given):
        raise errors.ModelNotFound(f"There is no model {given[:100]!r}.")
    return given


def _shown(row: Any) -> shapes.Version:
    return shapes.model(row, parts().db.read(workers.living))
