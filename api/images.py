"""Images: what a picture looks like."""

import hashlib

import flask

from api import asked, auth, document
from api.parts import parts
from jobs import errors
from jobs.store import images

blueprint = flask.Blueprint("images", __name__, url_prefix="/v1/images")
KEPT_SECONDS = 3600
MADE_AS = "1"  # another one, and everybody fetches them anew
# Codes of results that say that the bytes themselves are no good.
HOPELESS = {"empty", "undecodable", "too_large", "unsupported_format", "crashed_decoder", "timed_out"}


@blueprint.get("/<image_id>/thumbnail")
@document.call(
    bytes,
    '-o thumbnail.jpg "$URL/v1/images/$IMAGE/thumbnail"',
    media="image/jpeg",
    says={200: "the thumbnail"},
    headers={"If-None-Match": {"description": "the ETag of one that is known"}},
    answered={"ETag": "of this thumbnail", "Cache-Control": "for how long it need not be asked for again"},
    also={304: None},
    problems={
        404: ["image_not_found"],
        410: ["picture_gone"],
        422: ["no_thumbnail"],
        503: ["blobs_unavailable", "too_busy", "unavailable"],
    },
)
def thumbnail(image_id: str) -> flask.Response:
    """A picture, upright, as a JPEG of at most 256 pixels a side: made anew, without its metadata."""
    number = int(image_id) if asked.is_row(image_id) else -1
    row = parts().db.read(images.one, number, auth.caller().sees)
    if row.error_code in HOPELESS:
        raise errors.NoThumbnail(f"There is no thumbnail of this picture: {row.error_detail}")
    tag = hashlib.sha256(f"{MADE_AS} {row.sha256}".encode()).hexdigest()[:32]
    response = flask.Response(mimetype="image/jpeg")
    response.set_etag(tag)
    response.cache_control.private = True
    response.cache_control.max_age = KEPT_SECONDS
    if not flask.request.if_none_match.contains(tag):
        response.set_data(parts().miniatures.make(row.sha256))
    response.make_conditional(flask.request)
    return response
