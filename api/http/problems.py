"""Problem details (RFC 9457): the one shape of every error response."""

import functools
import logging
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import flask
import uuid_utils
import werkzeug
from werkzeug import exceptions

from api.http import multipart
from core import errors, settings
from core.tracing import tracer

log = logging.getLogger(__name__)
RETRY_AFTER_SECONDS = 2
REQUEST_ID = re.compile(r"[\w.-]{1,100}")
NO_STORE = "private, no-store"
"""The Cache-Control of responses that set none: labels, names and metadata of a caller are for no cache."""
INTERNAL_ERROR_DETAIL = "The server failed; its log has the request under this request_id."
CODES_BY_STATUS = {
    400: "bad_request",
    401: "key_expired no_key",
    403: "invalid_link not_allowed",
    404: "delivery_not_found image_not_found job_not_found key_not_found model_not_found not_found result_not_found",
    406: "not_acceptable",
    409: "image_running is_live job_not_over job_sealed key_name_taken not_tested nothing_before nothing_to_retry "
    "nothing_to_review scan_taken test_failed version_taken",
    410: "image_gone job_purged",
    415: "unsupported_format",
    422: "bad_bundle bad_parameter duplicate_name empty idempotency_mismatch no_images no_thumbnail "
    "selection_too_large too_large too_many_images undecodable unknown_blob unknown_label unknown_model "
    "unknown_source",
    429: "quota_exceeded rate_limited too_many_bad_keys too_many_waits",
    503: "queue_full store_full too_busy",
}
STATUS_BY_CODE = {code: status for status, codes in CODES_BY_STATUS.items() for code in codes.split()}
IMAGE_ENDPOINTS = ("jobs.submit", "jobs.add")
CODE_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}
CODE_MEANINGS = {
    "bad_request": "The request cannot be read.",
    "body_too_large": "The body has more bytes than such a request may have; send less at a time.",
    "cut_off": "The connection was closed before the whole body had arrived.",
    "internal_error": "The server failed; its log has the request under the `request_id`.",
    "method_not_allowed": "The path does not take this method; the header Allow lists those that it takes.",
    "no_websockets": "This server has no WebSockets; follow a job by server-sent events: GET /v1/jobs/ID/events.",
    "not_found": "There is nothing at this path; a missing job has a code of its own, `job_not_found`, and so on.",
    "request_timeout": "The request did not arrive in time, or paused for too long.",
    "too_busy": "The server has no memory left for request bodies, or too many thumbnails are being made, too many "
    "selections are being changed, or too many requests wait, at the same time; retry in a few seconds.",
}
"""The meanings of the codes that no error class has."""


def register(app: flask.Flask, config: settings.Settings) -> None:
    """Give every request an id, and every error the shape of a problem."""
    app.before_request(_assign_request_id)
    app.before_request(_check_host)
    app.after_request(_add_headers)
    app.register_error_handler(errors.ClientError, _client_error)
    app.register_error_handler(errors.ImageFailed, lambda e: problem_response(STATUS_BY_CODE[e.code], e.code, e.detail))
    app.register_error_handler(errors.TemporarilyRejected, _temporarily_rejected)
    app.register_error_handler(errors.ServiceUnavailable, _service_unavailable)
    app.register_error_handler(exceptions.HTTPException, functools.partial(_http_error, config.max_images_per_request))
    app.register_error_handler(Exception, _unexpected)


def problem_response(status: int, code: str, detail: str, faults: Sequence[errors.Fault] = ()) -> flask.Response:
    """Return an error of the current request."""
    response = flask.jsonify(problem_body(status, code, detail, flask.g.request_id, faults))
    response.status_code = status
    response.mimetype = "application/problem+json"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_body(
    status: int, code: str, detail: str, request_id: str, faults: Sequence[errors.Fault] = ()
) -> dict[str, Any]:
    """Return the JSON of an error: a `code` for machines, a sentence for people, and each fault by itself, if any."""
    problem = {
        "type": f"urn:sortbelt:problem:{code}",
        "title": werkzeug.http.HTTP_STATUS_CODES[status],
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if faults:
        problem["errors"] = [
            {name: value for name, value in fault._asdict().items() if value is not None} for fault in faults
        ]
    return problem


def unavailable_detail(error: errors.ServiceUnavailable) -> str:
    """Return the sentence for the caller: the error's own detail is for the log only, unless it is public."""
    detail = error.detail if error.is_detail_public else type(error).__doc__
    return f"{detail} {_retry_advice(RETRY_AFTER_SECONDS)}"


def _retry_advice(seconds: int) -> str:
    return f"Retry in {seconds} second{'s' * (seconds != 1)}."


def normalize_request_id(value: str) -> str:
    """Return the caller's request id if it may be logged, else a new one."""
    return value if value and REQUEST_ID.fullmatch(value) else str(uuid_utils.uuid7())


def _assign_request_id() -> None:
    flask.g.request_id = normalize_request_id(flask.request.headers.get("X-Request-ID", ""))


def _check_host() -> flask.Response | None:
    """Reject a request without a usable host (RFC 9112, section 3.2): the links in its response would have none."""
    if flask.request.host:
        return None
    value = flask.request.headers.get("Host")
    sent = "has no header Host" if value is None else f"has the header Host: {value[:100]!r}"
    return problem_response(400, "bad_request", f"The request {sent}; send one with HOST or HOST:PORT of the server.")


def _add_headers(response: flask.Response) -> flask.Response:
    response.headers["X-Request-ID"] = flask.g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", NO_STORE)
    return response


def _log_label() -> str:
    """Return the request id for log lines, with the trace id if there is one."""
    trace = tracer.traceparent()
    return str(flask.g.request_id) if trace is None else f"{flask.g.request_id} (trace {trace.split('-')[1]})"


def _client_error(error: errors.ClientError) -> flask.Response:
    return problem_response(STATUS_BY_CODE[error.code], error.code, error.detail, error.faults)


def _temporarily_rejected(error: errors.TemporarilyRejected) -> flask.Response:
    seconds = math.ceil(max(error.retry_after, 1.0))
    response = problem_response(STATUS_BY_CODE[error.code], error.code, f"{error.detail} {_retry_advice(seconds)}")
    response.headers["Retry-After"] = str(seconds)
    return response


def _service_unavailable(error: errors.ServiceUnavailable) -> flask.Response:
    log.error("request %s: %s", _log_label(), error.detail)
    response = problem_response(503, error.code, unavailable_detail(error))
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _http_error(max_images: int, error: exceptions.HTTPException) -> flask.Response:
    status = error.code or 500
    detail = error.description or "The request failed."
    if isinstance(error, multipart.TooManyFormFields):
        detail = (
            f"The form has more than {multipart.MAX_FIELDS:,} fields besides the files; send only what /docs lists."
        )
        return problem_response(422, "bad_parameter", detail)
    if isinstance(error, multipart.FormFieldsTooLarge):
        max_bytes = flask.current_app.config["MAX_FORM_MEMORY_SIZE"]
        return problem_response(
            422,
            "bad_parameter",
            f"The fields besides the files are too large: at most {max_bytes:,} bytes are accepted.",
        )
    if status == 413:
        return _too_large(max_images)
    if flask.request.headers.get("Upgrade", "").lower() == "websocket":  # Werkzeug has routes of their own for them
        return problem_response(400, "no_websockets", CODE_MEANINGS["no_websockets"])
    if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods:
        return _method_not_allowed(error.valid_methods)
    if status == 404:
        detail = f"There is nothing at {flask.request.path[:100]!r}; /docs lists all operations."
    return problem_response(
        status, CODE_BY_STATUS.get(status, "bad_request" if status < 500 else "internal_error"), detail
    )


def _method_not_allowed(valid_methods: Iterable[str]) -> flask.Response:
    allowed = ", ".join(sorted({*valid_methods} - {"HEAD", "OPTIONS"}))
    path, method = flask.request.path[:100], flask.request.method[:20]
    response = problem_response(
        405, "method_not_allowed", f"{path!r} takes {allowed}, not {method}; /docs lists all operations."
    )
    response.headers["Allow"] = ", ".join(sorted(valid_methods))
    return response


def _too_large(max_images: int) -> flask.Response:
    content_length, max_bytes = flask.request.content_length, flask.request.max_content_length
    if content_length is None or max_bytes is None or content_length > max_bytes:
        return problem_response(413, "body_too_large", f"The body is too large: {_size_hint(max_bytes or 0)}")
    max_field_bytes = flask.current_app.config["MAX_FORM_MEMORY_SIZE"]
    limit = f"a request may have {max_images:,} images and {max_field_bytes:,} bytes of other fields"
    return problem_response(422, "too_many_images", f"The form is too large: {limit}.")


def _size_hint(max_bytes: int) -> str:
    if flask.request.endpoint == "models.add":
        return f"a bundle may have {max_bytes:,} bytes here; SORTBELT_MAX_BUNDLE_BYTES of the server allows more."
    advice = " Send fewer images at a time." if flask.request.endpoint in IMAGE_ENDPOINTS else ""
    return f"a request may have {max_bytes:,} bytes here.{advice}"


def _unexpected(error: Exception) -> flask.Response:
    log.error("request %s failed", _log_label(), exc_info=error)
    return problem_response(500, "internal_error", INTERNAL_ERROR_DETAIL)
