"""What a request brings: the order, and the pictures as multipart parts or as one raw body."""

import json
from typing import Any

import flask

from api import auth
from api.parts import parts
from jobs import errors, intake, tables
from jobs.store import jobs


def order() -> jobs.NewJob:
    """The order: from the JSON body of an open job, the form fields, or the parameters of a raw body.

    Raises:
        errors.BadParameter: a field is malformed.
    """
    fields = _fields()
    return jobs.NewJob(
        owner=auth.caller().id,
        model=_text(fields, "model") or parts().settings.model,
        priority=_priority(fields),
        metadata=_metadata(fields.get("metadata")),
        idempotency_key=_idempotency_key(),
        sealed=not fields.get("open", False),
    )


def pictures() -> list[intake.Upload]:
    """The pictures: every part named `images`, or the raw body.

    Raises:
        errors.NoImages: there are none.
    """
    request = flask.request
    if request.mimetype == "multipart/form-data":
        found = [intake.Upload(part.filename or "", part.read()) for part in request.files.getlist("images")]
    elif is_raw():
        found = [intake.Upload(request.args.get("name", "image"), request.get_data(cache=False))]
    else:
        raise errors.NoImages("Send pictures as multipart/form-data parts named `images`, or one as the raw body.")
    if not found:
        raise errors.NoImages
    return found


def is_raw() -> bool:
    """Whether the body is one picture."""
    mimetype = flask.request.mimetype
    return mimetype.startswith("image/") or mimetype in ("application/octet-stream", "")


def is_json() -> bool:
    """Whether the body is JSON: the order of an open job, without pictures."""
    return flask.request.is_json


def _fields() -> dict[str, Any]:
    if not is_json():
        return {**flask.request.args.to_dict(), **flask.request.form.to_dict()}
    body = flask.request.get_json(silent=True)
    if not isinstance(body, dict) or body.get("open") is not True:
        raise errors.BadParameter('A JSON body opens a job without pictures: it must be an object with "open": true.')
    return body


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise errors.BadParameter(f"{name} must be a text.")
    return value


def _priority(fields: dict[str, Any]) -> tables.Priority:
    given = _text(fields, "priority")
    if given is None:
        # One picture by itself is somebody waiting; a folder is not.
        return tables.Priority.INTERACTIVE if is_raw() else tables.Priority.BULK
    try:
        return tables.Priority[given.upper()]
    except KeyError:
        raise errors.BadParameter(f"priority={given!r} is not acceptable: it is interactive or bulk.") from None


def _metadata(given: Any) -> dict[str, Any]:
    try:
        value = json.loads(given) if isinstance(given, str) else (given or {})
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise errors.BadParameter("metadata must be a JSON object.")
    return value


def _idempotency_key() -> str | None:
    key = flask.request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= 255:
        raise errors.BadParameter("An Idempotency-Key has 1 to 255 characters.")
    return key
