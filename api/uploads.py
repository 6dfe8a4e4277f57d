"""What a request brings: the order, and the pictures as multipart parts or as one raw body."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import flask

from api import asked, auth, unknown
from api.parts import parts
from jobs import errors, intake, pictures, tables
from jobs.store import jobs

Form = TypeVar("Form", bound=asked.CustomIds)
PROBLEMS = ["no_images", "duplicate_name", "too_many_images", "unknown_blob"]
"""What may be wrong with pictures that are brought."""
REFUSED = ["empty", "too_large", "undecodable"]
"""What besides may be wrong with one that is the raw body of an order; in a form it would fail by itself."""
IDEMPOTENT = {
    "Idempotency-Key": {
        "description": "a text of your choice, 1 to 255 characters: the same order under the same one is one job, "
        "however often it comes; another order under it is refused as `idempotency_mismatch`",
        "minLength": 1,
        "maxLength": 255,
    }
}
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_FILES = {"type": "array", "minItems": 1, "items": _FILE}
_IMAGES = {**_FILES, "description": "a picture each, with a file name that is its name in the results"}
_ONE = f"one picture, in one of {', '.join(pictures.FORMATS)}"
_RAW = {"image/*": {"schema": {"type": "string", "contentMediaType": "image/jpeg", "description": _ONE}}}
_FORM = asked.Order.told()
_IDS = asked.CustomIds.told()["properties"]
PICTURES = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"images": _IMAGES, **_IDS},
            "required": ["images"],
            "additionalProperties": False,
        }
    },
    **_RAW,
    **asked.References.described(),
}
ORDERED = {
    "multipart/form-data": {
        "schema": {**_FORM, "properties": {"images": _IMAGES, **_IDS, **_FORM["properties"]}, "required": ["images"]}
    },
    **_RAW,
    **asked.JsonOrder.described(),
}
"""How OpenAPI tells of bodies with pictures."""
BUNDLE = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"files": {**_FILES, "description": "a file of the bundle each, with its name"}},
            "required": ["files"],
            "additionalProperties": False,
        }
    }
}
"""How it tells of a body with the files of a bundle."""


@dataclass(frozen=True)
class Brought:
    """What a request brings: pictures, or references to such as were sent before; and whether more may follow."""

    uploads: list[intake.Upload]
    references: list[intake.Reference]
    open: bool = False


def order(query: asked.RawOrder) -> tuple[jobs.NewJob, Brought]:
    """The order with its pictures: by JSON, by a form, or by the parameters of the URL with a raw body.

    Raises:
        errors.BadParameter: a field is malformed.
        errors.NoImages: there are no pictures, and the job is not an open one.
    """
    if is_json():
        said = asked.JsonOrder.body()
        if not (said.open or said.images):
            raise errors.BadParameter(said.example)
        wanted: asked.Order = said
        found = Brought([], _references(said.images), said.open)
    else:
        found, form = _brought(query, asked.FormOrder)
        wanted = form or query
    # One picture by itself is somebody waiting; a folder is not.
    priority = wanted.priority or ("interactive" if is_raw() else "bulk")
    job = jobs.NewJob(
        owner=auth.caller().id,
        model=wanted.model or parts().settings.model,
        priority=tables.Priority[priority.upper()],
        metadata=wanted.metadata,
        idempotency_key=_idempotency_key(),
        sealed=not found.open,
        expires_in=wanted.expires_in,
        fresh=wanted.fresh,
        webhook=wanted.webhook,
        webhook_root=flask.request.url_root if wanted.webhook else None,
        limits=auth.quotas_of_caller(),
    )
    return job, found


def brought(query: asked.RawPicture) -> Brought:
    """The pictures: every part named `images`, the raw body, or references in JSON.

    Raises:
        errors.NoImages: there are none.
        errors.BadParameter: the form or the JSON cannot be read, or holds what is not known.
    """
    if is_json():
        return Brought([], _references(asked.References.body().images))
    return _brought(query, asked.CustomIds)[0]


def _brought(query: asked.RawPicture, kind: type[Form]) -> tuple[Brought, Form | None]:
    """The pictures of a form, with what it says besides, or of the raw body."""
    request, form = flask.request, None
    if request.mimetype == "multipart/form-data":
        form = _form(kind)
        found = _parts(form.custom_ids)
    elif is_raw():
        name = "image" if query.name is None else query.name
        data = request.get_data(cache=False)
        if not request.mimetype and data.lstrip()[:1] == b"{":  # no picture begins so
            raise errors.BadParameter("The body looks like JSON: send it with `Content-Type: application/json`.")
        found = [intake.Upload(name, data, query.custom_id)]
    else:
        raise errors.NoImages(
            "Send pictures as multipart/form-data parts named `images`, one picture as the raw body with "
            "`Content-Type: image/jpeg`, or JSON with `Content-Type: application/json`; "
            f"yours was {request.mimetype:.100}."
        )
    if not found:
        raise errors.NoImages
    return Brought(found, []), form


def _form(kind: type[Form]) -> Form:
    """What a form says besides its pictures; parameters of the URL count as its fields."""
    _read_form("images", kind.model_fields)
    if "images" in flask.request.form:
        raise errors.NoImages(
            "A part `images` has no file name: it is the picture's name, as in `-F images=@lunch.jpg`."
        )
    return kind.read({**flask.request.args.to_dict(), **flask.request.form.to_dict()})


def _parts(custom_ids: Mapping[str, str]) -> list[intake.Upload]:
    files = [(part.filename or "", part.read()) for part in flask.request.files.getlist("images")]
    if unknown := set(custom_ids) - dict(files).keys():
        name = min(unknown)[:100]
        raise errors.BadParameter(f"custom_ids names {name!r}, and the form has no picture of that name.")
    return [intake.Upload(name, data, custom_ids.get(name)) for name, data in files]


def _references(said: Iterable[asked.Reference]) -> list[intake.Reference]:
    return [intake.Reference(one.name, one.sha256, one.custom_id) for one in said]


def bundle() -> dict[str, bytes]:
    """The files of a model's bundle by their names: every part named `files`.

    Raises:
        errors.BadBundle: there are none, or two of one name.
        errors.BadParameter: the form cannot be read.
    """
    flask.request.max_content_length = parts().settings.max_bundle_bytes
    _read_form("files")
    found = [(part.filename or "", part.read()) for part in flask.request.files.getlist("files")]
    if not found or len(dict(found)) < len(found):
        raise errors.BadBundle("Send each file of the bundle once, as a multipart/form-data part named `files`.")
    return dict(found)


def is_raw() -> bool:
    """Whether the body is one picture."""
    mimetype = flask.request.mimetype
    return mimetype.startswith("image/") or mimetype in ("application/octet-stream", "")


def is_json() -> bool:
    """Whether the body is JSON: an order without pictures, or with references to such as were sent before."""
    return flask.request.is_json


def _read_form(files: str, fields: Iterable[str] = ()) -> None:
    """Read a form that has files under one name, and some fields.

    Raises:
        errors.BadParameter: it cannot be read, or has something else, or a field twice.
    """
    try:
        given = flask.request.form.to_dict(flat=False)
    except ValueError as error:
        raise errors.BadParameter(f"The form cannot be read; are its file names UTF-8? ({error})") from None
    known = [files, *fields]
    unknown.refuse("part", flask.request.files, [files])
    unknown.refuse("field", given, known)
    unknown.refuse_repeated("field", {name: values for name, values in given.items() if name != files})


def _idempotency_key() -> str | None:
    key = flask.request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= 255:
        raise errors.BadParameter("An Idempotency-Key has 1 to 255 characters.")
    return key
