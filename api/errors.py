"""Every error leaves here, in one shape: RFC 9457 `application/problem+json`."""

import logging
import re

import flask
import werkzeug
from uuid_utils import compat as uuids
from werkzeug import exceptions

from api import auth, parts
from jobs import errors

log = logging.getLogger(__name__)
RETRY_SECONDS = 2
STATUS = {
    "bad_request": 400,
    "duplicate_name": 422,
    "empty": 422,
    "idempotency_mismatch": 422,
    "bad_parameter": 422,
    "job_not_found": 404,
    "job_sealed": 409,
    "key_not_found": 404,
    "no_images": 422,
    "too_large": 422,
    "too_many_images": 422,
    "undecodable": 422,
    "unknown_model": 422,
    "unsupported_format": 415,
}
CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}


def register(app: flask.Flask) -> None:
    """Give every request an id, and every error its shape."""
    app.before_request(_name_request)
    app.after_request(_tell_name)
    app.register_error_handler(auth.NoKey, lambda e: problem(401, "no_key", str(e)))
    app.register_error_handler(auth.NotAllowed, lambda e: problem(403, "not_allowed", str(e)))
    app.register_error_handler(errors.Refused, lambda e: problem(STATUS[e.code], e.code, e.detail))
    app.register_error_handler(errors.BadPicture, lambda e: problem(STATUS[e.code], e.code, e.detail))
    app.register_error_handler(errors.Unavailable, _unavailable)
    app.register_error_handler(exceptions.HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def problem(status: int, code: str, detail: str) -> flask.Response:
    """One error: a stable `code` for machines, a sentence for people, and the request's id for both."""
    response = flask.jsonify(
        type=f"urn:sortbelt:problem:{code}",
        title=werkzeug.http.HTTP_STATUS_CODES[status],
        status=status,
        code=code,
        detail=detail,
        request_id=flask.g.request_id,
    )
    response.status_code = status
    response.mimetype = "application/problem+json"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _name_request() -> None:
    given = flask.request.headers.get("X-Request-ID", "")
    flask.g.request_id = given if re.fullmatch(r"[\w.-]{1,100}", given) else str(uuids.uuid7())


def _tell_name(response: flask.Response) -> flask.Response:
    response.headers["X-Request-ID"] = flask.g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _unavailable(error: errors.Unavailable) -> flask.Response:
    log.error("request %s: %s", flask.g.request_id, error.detail)
    # The reason may name hosts and files: it is for the log, not for the caller.
    response = problem(503, error.code, f"{type(error).__doc__} Try again in {RETRY_SECONDS} seconds.")
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def _http(error: exceptions.HTTPException) -> flask.Response:
    status = error.code or 500
    detail = error.description or "The request failed."
    if status == 413:
        return _too_much()
    response = problem(status, CODES.get(status, "bad_request" if status < 500 else "internal_error"), detail)
    if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _too_much() -> flask.Response:
    config = flask.current_app.config
    length = flask.request.content_length
    if length is None or length > config["MAX_CONTENT_LENGTH"]:
        limit = f"a request may have {config['MAX_CONTENT_LENGTH']:,} bytes"
        return problem(413, "body_too_large", f"The body is too large: {limit}. Send fewer pictures at a time.")
    most, fields = parts.parts().settings.max_images_per_request, config["MAX_FORM_MEMORY_SIZE"]
    limit = f"a request may hold {most:,} pictures and {fields:,} bytes of other fields"
    return problem(422, "too_many_images", f"The form is too large: {limit}.")


def _unexpected(error: Exception) -> flask.Response:
    log.error("request %s failed", flask.g.request_id, exc_info=error)
    return problem(500, "internal_error", "Something went wrong on our side; the log has it under this request_id.")
