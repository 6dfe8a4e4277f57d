"""The model registry: versions, and which of them is live; changes are for admins."""

from typing import Any

import flask

from api.http import auth, pagination, requests, uploads
from api.openapi import bodies
from api.openapi.operations import describe
from api.schemas import ids, model_requests, model_responses
from api.services import container
from core import enums, errors
from core.db.queries import models, reviews, shadows, workers
from core.intake import model_upload, promotion

PATH = "/v1/models"
blueprint = flask.Blueprint("models", __name__, url_prefix=PATH)
MODEL_URL = f"$URL{PATH}/$MODEL"
JSON_HEADER = '-H "Content-Type: application/json"'
NOT_FOUND_PROBLEMS = {404: ["model_not_found"]}


@blueprint.get("")
@describe(model_responses.Versions, f'"$URL{PATH}"')
def index() -> model_responses.Versions:
    """Return all versions of all models, by name, the newest of each first."""
    db = container.services().db
    live_workers = db.read(workers.list_alive)
    return {"models": [model_responses.serialize_model(row, live_workers) for row in db.read(models.list_all)]}


@blueprint.post("")
@describe(
    model_responses.Version,
    f'-F files=@model.json -F files=@weights.safetensors -F files=@CARD.md "$URL{PATH}"',
    role=enums.Role.ADMIN,
    status=201,
    other_responses={200: model_responses.Version},
    descriptions={200: "the version, which existed already", 201: "the new version"},
    body=bodies.BUNDLE,
    problems={409: ["version_taken"], 422: ["bad_bundle"], 503: ["blobs_unavailable"]},
)
def add() -> tuple[model_responses.Version, int]:
    """Add a bundle as a version, which is not served before it is promoted; repeating changes nothing."""
    services = container.services()
    files = uploads.read_bundle(services.settings.max_bundle_bytes)
    row, is_new = model_upload.register_bundle(services.db, services.blob_store, files, auth.caller().id)
    return _version_response(row), 201 if is_new else 200


@blueprint.post("/<name>/promote")
@describe(
    model_responses.Version,
    f"""{JSON_HEADER} -d '{{"version": "2"}}' "{MODEL_URL}/promote\"""",
    role=enums.Role.ADMIN,
    body=model_requests.PromotionRequest,
    problems={**NOT_FOUND_PROBLEMS, 409: ["not_tested", "test_failed"], 503: ["being_tested"]},
)
def promote(name: str) -> model_responses.Version:
    """Make a version the live one, once a worker has tested it."""
    request = requests.parse_json_body(model_requests.PromotionRequest)
    db, caller = container.services().db, auth.caller()
    row = promotion.promote(db, _valid_name(name), request.version, caller.id, force=request.force)
    return _version_response(row)


@blueprint.post("/<name>/rollback")
@describe(
    model_responses.Version,
    f'-X POST "{MODEL_URL}/rollback"',
    role=enums.Role.ADMIN,
    problems={**NOT_FOUND_PROBLEMS, 409: ["nothing_before"]},
)
def rollback(name: str) -> model_responses.Version:
    """Make the previous live version live again."""
    db = container.services().db
    return _version_response(db.write(models.rollback, _valid_name(name), auth.caller().id))


@blueprint.post("/<name>/shadow")
@describe(
    model_responses.Version,
    f"""{JSON_HEADER} -d '{{"version": "2", "share": 0.1}}' "{MODEL_URL}/shadow\"""",
    role=enums.Role.ADMIN,
    body=model_requests.ShadowRequest,
    problems={**NOT_FOUND_PROBLEMS, 409: ["is_live"]},
)
def shadow(name: str) -> model_responses.Version:
    """Run a version as a shadow on a share of the images: it classifies them too, without changing any result."""
    request = requests.parse_json_body(model_requests.ShadowRequest)
    db = container.services().db
    return _version_response(db.write(models.set_shadow_share, _valid_name(name), request.version, request.share))


@blueprint.get("/compare")
@describe(
    model_responses.Comparison,
    f'-G -d a=$MODEL@1 -d b=$MODEL@2 "$URL{PATH}/compare"',
    needs_global_read=True,
    response_headers=pagination.LINK_HEADERS,
    problems=NOT_FOUND_PROBLEMS,
)
def compare(query: model_requests.ComparisonQuery) -> flask.Response:
    """Return the agreement of two versions, and the images on which they differ, most confident first."""
    read = container.services().db.read
    a, b = (read(models.get_version, *version) for version in query.versions)
    error_counts = {"a": read(shadows.count_errors, a.id), "b": read(shadows.count_errors, b.id)}
    agreement = model_responses.serialize_agreement(
        a, b, read(shadows.confusion, a, b), error_counts, read(reviews.compare, a, b)
    )
    rows = read(shadows.disagreements, a, b, limit=query.limit, after=query.cursor_position)
    return pagination.list_response(
        "disagreements",
        query,
        rows,
        model_responses.serialize_disagreement,
        lambda row: f"{row.total_confidence!r}_{row.image_id}",
        agreement,
    )


def _valid_name(value: str) -> str:
    if not ids.is_slug(value):
        raise errors.ModelNotFound.of(value)
    return value


def _version_response(row: Any) -> model_responses.Version:
    return model_responses.serialize_model(row, container.services().db.read(workers.list_alive))
