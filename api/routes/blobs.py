"""Blobs: images whose bytes were sent before need not be sent again."""

import flask

from api.http import auth, requests
from api.openapi.operations import describe
from api.schemas import job_requests, job_responses
from api.services import container
from core import enums
from core.db.queries import known_blobs

blueprint = flask.Blueprint("blobs", __name__, url_prefix="/v1/blobs")
EXAMPLE = """-H "Content-Type: application/json" -d '{"sha256": ["'$SHA'"]}' "$URL/v1/blobs/check\""""


@blueprint.post("/check")
@describe(job_responses.DigestCheck, EXAMPLE, role=enums.Role.SUBMIT, body=job_requests.DigestCheckRequest)
def check() -> job_responses.DigestCheck:
    """Return which of these SHA-256 digests you have sent before: such images can be submitted by name and digest.

    Only images that were sent with your own key count, so that a caller cannot find out what others have sent.
    """
    digests = list(dict.fromkeys(requests.parse_json_body(job_requests.DigestCheckRequest).sha256))
    known = container.services().db.read(known_blobs.find_known, auth.caller().id, digests)
    return {
        "known": [sha256 for sha256 in digests if sha256 in known],
        "missing": [sha256 for sha256 in digests if sha256 not in known],
    }
