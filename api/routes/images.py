"""Images: their thumbnails, their bytes, and their deletion."""

import hashlib
from typing import Any

import flask

from api.http import auth, image_links
from api.openapi.operations import describe
from api.schemas import ids, image_requests, purge_responses
from api.services import container, image_bytes, thumbnail_child, thumbnails
from core import enums, errors
from core.db.queries import deletions, images, known_blobs

blueprint = flask.Blueprint("images", __name__, url_prefix="/v1/images")
CACHE_MAX_AGE_SECONDS = 3600
# Error codes of results whose image cannot be decoded, also not for a thumbnail.
UNDECODABLE_CODES = {
    "empty",
    "undecodable",
    "too_large",
    "truncated",
    "unsupported_format",
    "crashed_decoder",
    "timed_out",
    "cpu_time_exceeded",
}
RENDITION_PROBLEMS = {
    404: ["image_not_found"],
    410: ["image_gone"],
    422: ["no_thumbnail"],
    503: ["blobs_unavailable", "source_unavailable", "too_busy", "unavailable"],
}
RENDITION = {
    "media_type": "image/jpeg",
    "request_headers": {"If-None-Match": {"description": "the ETag of the image that you have"}},
    "response_headers": {"ETag": "of this JPEG", "Cache-Control": "how long it may be cached"},
    "other_responses": {304: None},
    "problems": RENDITION_PROBLEMS,
}


@blueprint.delete("/<image_id>")
@describe(
    purge_responses.ImageDeletion,
    '"$URL/v1/images/$IMAGE"',
    role=enums.Role.SUBMIT,
    problems={404: ["image_not_found"], 409: ["image_running"], 410: ["image_gone"]},
)
def delete(image_id: str) -> purge_responses.ImageDeletion:
    """Delete an image from its job, with its result and its bytes; the receipt in the response stays.

    The counts of the job no longer have it. Bytes that another image has too stay; those that came within the last hour
    are removed some hours later. A repeat returns the same receipt. Admins may delete any image, other callers those of
    their own jobs.
    """
    services, caller = container.services(), auth.caller()
    receipt, digest = services.db.write(
        deletions.delete_image, ids.require_row_id(image_id, errors.ImageNotFound), caller.deletable_owner, caller.id
    )
    if digest is not None:
        services.blob_store.remove(services.db.read(known_blobs.unreferenced, [digest]))
    return purge_responses.serialize_deletion(receipt)


@blueprint.get("/<image_id>/thumbnail")
@describe(bytes, '-o thumbnail.jpg "$URL/v1/images/$IMAGE/thumbnail"', descriptions={200: "the thumbnail"}, **RENDITION)
def thumbnail(image_id: str) -> flask.Response:
    """Return an image, upright, as a JPEG of at most 256 pixels a side: re-encoded, without its metadata."""
    return _rendition_response(image_id, thumbnails.THUMBNAIL)


@blueprint.get("/<image_id>/preview")
@describe(
    bytes,
    '-o preview.jpg "$URL/v1/images/$IMAGE/preview"',
    role=enums.Role.REVIEW,
    descriptions={200: "the preview"},
    **RENDITION,
)
def preview(image_id: str) -> flask.Response:
    """Return an image as its thumbnail, with up to 1,600 pixels a side; it is not enlarged."""
    return _rendition_response(image_id, thumbnails.PREVIEW)


def _rendition_response(image_id: str, size: thumbnail_child.Size) -> flask.Response:
    services = container.services()
    return _render(
        services,
        services.db.read(images.get, ids.require_row_id(image_id, errors.ImageNotFound), auth.caller().visible_owner),
        size,
    )


@blueprint.get("/<image_id>/linked")
@describe(
    bytes,
    '-o thumbnail.jpg "$URL/v1/images/$IMAGE/linked?key=$ID&expires=$EXPIRES&signature=$SIGNATURE"',
    is_public=True,
    media_type="image/jpeg",
    descriptions={200: "the thumbnail"},
    problems={403: ["invalid_link"], **RENDITION_PROBLEMS},
)
def linked(image_id: str, query: image_requests.LinkQuery) -> flask.Response:
    """Return the thumbnail of an image for a signed link, without a key: for a day, and while its key is valid.

    `Accept: application/vnd.label-studio+json; images=links` gives such links.
    """
    services, row_id = container.services(), ids.row_id(image_id)
    holder = image_links.check(services.db, query.key, row_id, query.expires, query.signature)
    return _render(services, services.db.read(images.get, row_id, holder.visible_owner), thumbnails.THUMBNAIL)


def _render(services: container.Services, row: Any, size: thumbnail_child.Size) -> flask.Response:
    if row.error_code in UNDECODABLE_CODES:
        raise errors.NoThumbnail(f"This image has no thumbnail: {row.error_detail}")
    etag = hashlib.sha256(f"{thumbnails.RENDER_VERSION} {size.name} {row.sha256}".encode()).hexdigest()[:32]
    response = flask.Response(mimetype="image/jpeg")
    response.set_etag(etag)
    response.cache_control.private = True
    response.cache_control.max_age = CACHE_MAX_AGE_SECONDS
    if not flask.request.if_none_match.contains(etag):
        read_source = services.sources.reader(row.source, row.location, row.bytes)  # None for an uploaded image
        response.set_data(services.thumbnailer.get(row.sha256, size, read_source))
    response.make_conditional(flask.request)
    return response


@blueprint.get("/<image_id>/file")
@describe(
    bytes,
    '-o image "$URL/v1/images/$IMAGE/file"',
    role=enums.Role.REVIEW,
    media_type="application/octet-stream",
    descriptions={200: "the bytes of the image"},
    response_headers={"ETag": "the SHA-256 of the bytes", "Content-Disposition": "attachment: not for a browser"},
    problems={404: ["image_not_found"], 410: ["image_gone"], 503: ["blobs_unavailable", "source_unavailable"]},
)
def file(image_id: str) -> flask.Response:
    """Return an image as it was submitted, with its metadata: for training, and not to be shown by a browser."""
    services = container.services()
    row = services.db.read(images.get, ids.require_row_id(image_id, errors.ImageNotFound), auth.caller().visible_owner)
    read_source = services.sources.reader(row.source, row.location, row.bytes)
    response = flask.Response(image_bytes.read(services.blob_store, row.sha256, read_source))
    response.mimetype = "application/octet-stream"
    response.set_etag(row.sha256)
    response.headers["Content-Disposition"] = "attachment"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "no-store"
    return response
