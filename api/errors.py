"""Every error leaves here, in one shape: RFC 9457 `application/problem+json`."""

import logging
import math
import re
from collections.abc import Iterable
from typing import Any

import flask
import werkzeug
from uuid_utils import compat as uuids
from werkzeug import exceptions

from api import auth, formats, forms, parts
from jobs import errors, tracing

log = logging.getLogger(__name__)
RETRY_SECONDS = 2
STATUS = {
    "bad_bundle": 422,
    "bad_request": 400,
    "delivery_not_found": 404,
    "duplicate_name": 422,
    "empty": 422,
    "idempotency_mismatch": 422,
    "bad_parameter": 422,
    "image_not_found": 404,
    "is_live": 409,
    "job_not_found": 404,
    "job_not_over": 409,
    "job_purged": 410,
    "job_sealed": 409,
    "key_expired": 401,
    "key_not_found": 404,
    "model_not_found": 404,
    "no_images": 422,
    "no_thumbnail": 422,
    "nothing_before": 409,
    "nothing_to_retry": 409,
    "picture_gone": 410,
    "queue_full": 503,
    "quota_exceeded": 429,
    "rate_limited": 429,
    "result_not_found": 404,
    "scan_taken": 409,
    "too_large": 422,
    "too_many_bad_keys": 429,
    "too_many_images": 422,
    "undecodable": 422,
    "unknown_blob": 422,
    "unknown_model": 422,
    "unknown_source": 422,
    "unsupported_format": 415,
    "version_taken": 409,
}
CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}
MEANINGS = {
    "bad_request": "The request cannot be read.",
    "body_too_large": "The body has more bytes than a request may have; send fewer pictures at a time.",
    "cut_off": "The body has not come whole.",
    "internal_error": "Something went wrong on our side; the server's log has it under the `request_id`.",
    "method_not_allowed": "The path does not take this method; the header Allow says which it takes.",
    "not_found": "There is no such path; a thing that is not there has a code of its own, such as `job_not_found`.",
    "request_timeout": "The request did not come in time, or paused for too long.",
    "too_busy": "Too much is being sent at once, or too many thumbnails are being made.",
}
"""What those codes mean that are no error's of ours."""


def register(app: flask.Flask) -> None:
    """Give every request an id, and every error its shape."""
    app.before_request(_name_request)
    app.after_request(_tell_name)
    app.register_error_handler(auth.NoKey, lambda e: problem(401, "no_key", str(e)))
    app.register_error_handler(auth.NotAllowed, lambda e: problem(403, "not_allowed", str(e)))
    app.register_error_handler(formats.NotAcceptable, lambda e: problem(406, "not_acceptable", str(e)))
    app.register_error_handler(errors.Refused, lambda e: problem(STATUS[e.code], e.code, e.detail))
    app.register_error_handler(errors.BadPicture, lambda e: problem(STATUS[e.code], e.code, e.detail))
    app.register_error_handler(errors.Later, _later)
    app.register_error_handler(errors.Unavailable, _unavailable)
    app.register_error_handler(exceptions.HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def problem(status: int, code: str, detail: str) -> flask.Response:
    """One error: a stable `code` for machines, a sentence for people, and the request's id for both."""
    response = flask.jsonify(shape(status, code, detail, flask.g.request_id))
    response.status_code = status
    response.mimetype = "application/problem+json"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def shape(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    """The one shape of an error."""
    return {
        "type": f"urn:sortbelt:problem:{code}",
        "title": werkzeug.http.HTTP_STATUS_CODES[status],
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }


def request_id(given: str) -> str:
    """The id of a request: its caller's, if that is fit to be logged, else a new one."""
    return given if re.fullmatch(r"[\w.-]{1,100}", given) else str(uuids.uuid7())


def _name_request() -> None:
    flask.g.request_id = request_id(flask.request.headers.get("X-Request-ID", ""))


def _tell_name(response: flask.Response) -> flask.Response:
    response.headers["X-Request-ID"] = flask.g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _named() -> str:
    """The request as the log names it: with its trace, if it has one."""
    trace = tracing.traceparent()
    return str(flask.g.request_id) if trace is None else f"{flask.g.request_id} (trace {trace.split('-')[1]})"


def _later(error: errors.Later) -> flask.Response:
    seconds = math.ceil(max(error.seconds, 1.0))
    response = problem(STATUS[error.code], error.code, f"{error.detail} Try again in {seconds} seconds.")
    response.headers["Retry-After"] = str(seconds)
    return response


def _unavailable(error: errors.Unavailable) -> flask.Response:
    log.error("request %s: %s", _named(), error.detail)
    # The reason may name hosts and files: it is for the log, not for the caller.
    response = problem(503, error.code, f"{type(error).__doc__} Try again in {RETRY_SECONDS} seconds.")
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def _http(error: exceptions.HTTPException) -> flask.Response:
    status = error.code or 500
    detail = error.description or "The request failed."
    if isinstance(error, forms.TooMuchText):
        most = flask.current_app.config["MAX_FORM_MEMORY_SIZE"]
        return problem(
            422, "bad_parameter", f"The fields besides the files are too large: they may have {most:,} bytes."
        )
    if status == 413:
        return _too_much()
    if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods:
        return _other_methods(error.valid_methods)
    if status == 404:
        detail = f"There is no {flask.request.path[:100]!r} here; /docs lists all calls."
    return problem(status, CODES.get(status, "bad_request" if status < 500 else "internal_error"), detail)


def _other_methods(valid: Iterable[str]) -> flask.Response:
    there = ", ".join(sorted({*valid} - {"HEAD", "OPTIONS"}))
    path, method = flask.request.path[:100], flask.request.method[:20]
    response = problem(405, "method_not_allowed", f"{path!r} takes {there}, and not {method}; /docs lists all calls.")
    response.headers["Allow"] = ", ".join(sorted(valid))
    return response


def _too_much() -> flask.Response:
    config, length, longest = flask.current_app.config, flask.request.content_length, flask.request.max_content_length
    if length is None or longest is None or length > longest:
        return problem(413, "body_too_large", f"The body is too large: {_remedy(longest or 0)}")
    most, fields = parts.parts().settings.max_images_per_request, config["MAX_FORM_MEMORY_SIZE"]
    limit = f"a request may hold {most:,} pictures and {fields:,} bytes of other fields"
    return problem(422, "too_many_images", f"The form is too large: {limit}.")


def _remedy(longest: int) -> str:
    if flask.request.endpoint == "models.add":
        return f"a bundle may have {longest:,} bytes here; SORTBELT_MAX_BUNDLE_BYTES of the server allows more."
    return f"a request may have {longest:,} bytes. Send fewer pictures at a time."


def _unexpected(error: Exception) -> flask.Response:
    log.error("request %s failed", _named(), exc_info=error)
    return problem(500, "internal_error", "Something went wrong on our side; the log has it under this request_id.")
