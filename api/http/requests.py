"""Validated parts of the Flask request: the query, a JSON body, the fields of a form, and a few headers."""

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import flask

from api.schemas import base, job_requests, request_fields, unknown_fields, validation_errors
from core import errors, json_values

MAX_JSON_BYTES = 3_000_000
"""The largest JSON body without images: a thousand images with long names and metadata have fewer."""
MAX_JSON_VALUES = 100_000
"""The most commas of a JSON body: a thousand images with long names and metadata have fewer, and base64 has none."""
LARGE_JSON_BYTES = 100_000
"""A larger JSON body waits for other large ones, so that no thread that callers share may parse it."""
NO_ALIASES = re.compile(r"(?!)")
Model = TypeVar("Model", bound=base.RequestModel)
# Python parses JSON without letting other threads run: one large body at a time leaves them their turns.
_large_json_lock = threading.Lock()
IDEMPOTENCY_HEADER = {
    "Idempotency-Key": {
        "description": "a text of your choice, 1 to 255 characters: the same submission under the same key is one job, "
        "however often it is sent; another submission under it is rejected as `idempotency_mismatch`",
        "minLength": 1,
        "maxLength": 255,
    }
}


def parse_query(model: type[Model], hints: Mapping[str, str]) -> Model:
    """Validate the parameters of the URL; `hints` say what to do instead of sending some unknown ones.

    Raises:
        errors.BadParameter: one is not acceptable, unknown, or given twice.
    """
    arguments = flask.request.args
    if not arguments:
        return model.parse({})
    values = model.parse(arguments.to_dict(), validation_errors.FieldNames("parameter", hints=hints))
    assumed = [
        f"{name}={getattr(values, name).replace(tzinfo=None).isoformat()}"
        for name, text in arguments.items()
        if isinstance(getattr(values, name, None), datetime) and request_fields.is_without_zone(text)
    ]
    if assumed:
        notice = f"{' and '.join(assumed)} without a time zone: taken as UTC. Add Z, or an offset such as +02:00."
        flask.after_this_request(functools.partial(_add_notice, notice))
    reject_repeated("parameter", arguments.to_dict(flat=False))
    return values


def _add_notice(notice: str, response: flask.Response) -> flask.Response:
    response.headers["Sortbelt-Notice"] = notice
    return response


def parse_json_body(
    model: type[Model], max_bytes: int = MAX_JSON_BYTES, check: Callable[[dict[str, Any]], None] = lambda _value: None
) -> Model:
    """Validate the JSON object in the body; parameters of the URL count as its fields.

    `check` is called with the object before its fields are validated.

    Raises:
        errors.BadParameter: it is not a JSON object, or a field is not acceptable, missing or unknown.
        werkzeug.exceptions.RequestEntityTooLarge: it is larger than JSON may be.
    """
    text = _json_text(max_bytes)
    with _large_json_lock if len(text) > LARGE_JSON_BYTES else contextlib.nullcontext():
        try:
            value = json_values.parse_json(text)
        except ValueError as error:
            raise errors.BadParameter(f"The body is not JSON: {error}. {model.example}".strip()) from None
        if not isinstance(value, dict):
            raise errors.BadParameter(f"The body must be a JSON object. {model.example}".strip())
        check(value)
        return model.parse({**flask.request.args.to_dict(), **value})


def _json_text(max_bytes: int = MAX_JSON_BYTES) -> str:
    """Return the text of a JSON body.

    Raises:
        errors.BadParameter: it is not UTF-8, or has too many values.
        werkzeug.exceptions.RequestEntityTooLarge: it is larger than JSON may be.
    """
    max_body_bytes = flask.request.max_content_length
    flask.request.max_content_length = min(max_bytes, max_body_bytes or max_bytes)
    try:
        text = flask.request.get_data(cache=False).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.BadParameter(
            f"The body is not UTF-8, which JSON must be: byte {error.start:,} is 0x{error.object[error.start]:02x}. "
            "Encode the body as UTF-8."
        ) from None
    if text.count(",") > MAX_JSON_VALUES:
        raise errors.BadParameter(
            f"The JSON body has more than {MAX_JSON_VALUES:,} values, by its commas. Send fewer images or other values."
        )
    return text


def parse_form(model: type[Model], file_field: str, aliases: re.Pattern[str] = NO_ALIASES) -> Model:
    """Read a form, and validate its fields besides the files; parameters of the URL count as its fields.

    The files may come under `file_field` or an alias of it.

    Raises:
        errors.BadParameter: the form cannot be read, has files under another name, or a field that is not acceptable.
    """
    request = flask.request
    fields = request.form
    if unknown_files := [name for name in request.files if name != file_field and not aliases.fullmatch(name)]:
        raise errors.BadParameter(unknown_fields.unknown_message("part", unknown_files, [file_field]))
    values: dict[str, Any] = {**request.args.to_dict(), **fields.to_dict()}
    # A part of that name that is not a file is the caller's to report.
    values = {name: value for name, value in values.items() if name != file_field and not aliases.fullmatch(name)}
    parsed = model.parse(values, validation_errors.FieldNames("field", also_known=[file_field]))
    if len(fields) < sum(map(len, fields.listvalues())):
        reject_repeated("field", {**fields.to_dict(flat=False), file_field: []})
    return parsed


def reject_body_fields() -> None:
    """Reject fields in the JSON body of a request that takes none; an empty object is harmless.

    Raises:
        errors.BadParameter: there are some.
    """
    if flask.request.is_json:
        payload = None
        with contextlib.suppress(ValueError, errors.BadParameter):
            payload = json_values.parse_json(_json_text())
        if payload and isinstance(payload, dict):
            raise errors.BadParameter(unknown_fields.unknown_message("field", list(payload), ()))


def reject_repeated(kind: str, values_by_name: Mapping[str, list[str]]) -> None:
    """Reject a parameter or field that was given twice: one of the values would be ignored.

    Raises:
        errors.BadParameter: one was.
    """
    for name, values in values_by_name.items():
        if len(values) > 1:
            raise errors.BadParameter(unknown_fields.repeated_message(kind, name, len(values)))


def idempotency_key() -> str | None:
    """Return the header Idempotency-Key.

    Raises:
        errors.BadParameter: it is empty or too long.
    """
    key = flask.request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= 255:
        raise errors.BadParameter(f"Idempotency-Key has {len(key):,} characters; send 1 to 255.")
    return key


def preferred_wait_seconds() -> float | None:
    """Return the seconds in `Prefer: wait=N` (RFC 7240), at most the longest wait; None without a number."""
    header = flask.request.headers.get("Prefer")
    match = header and re.search(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]+)\b", header, re.IGNORECASE)
    return min(float(match[1]), job_requests.MAX_WAIT_SECONDS) if match else None
