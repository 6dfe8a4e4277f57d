"""What a request brings: the order, and the pictures as multipart parts or as one raw body."""

import flask
from werkzeug import formparser

from api import asked, auth
from api.parts import parts
from jobs import errors, intake, tables
from jobs.store import jobs


class Request(flask.Request):
    """A request whose form is either read whole or refused."""

    def make_form_data_parser(self) -> formparser.FormDataParser:
        """Werkzeug's, but it does not pass over a form that it cannot read as if there were none."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser


def order() -> jobs.NewJob:
    """The order: from the JSON body of an open job, the form fields, or the parameters of the URL.

    Raises:
        errors.BadParameter: a field is malformed.
    """
    request = flask.request
    if is_json():
        wanted: asked.Order = asked.OpenOrder.body()
    else:
        _read_form()
        wanted = asked.Order.read({**request.args.to_dict(), **request.form.to_dict()})
    # One picture by itself is somebody waiting; a folder is not.
    priority = wanted.priority or ("interactive" if is_raw() else "bulk")
    return jobs.NewJob(
        owner=auth.caller().id,
        model=wanted.model or parts().settings.model,
        priority=tables.Priority[priority.upper()],
        metadata=wanted.metadata,
        idempotency_key=_idempotency_key(),
        sealed=not is_json(),
    )


def pictures() -> list[intake.Upload]:
    """The pictures: every part named `images`, or the raw body.

    Raises:
        errors.NoImages: there are none.
        errors.BadParameter: the form cannot be read.
    """
    request = flask.request
    if request.mimetype == "multipart/form-data":
        _read_form()
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


def _read_form() -> None:
    try:
        _ = flask.request.form
    except ValueError as error:
        raise errors.BadParameter(f"The form cannot be read; are its file names UTF-8? ({error})") from None


def _idempotency_key() -> str | None:
    key = flask.request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= 255:
        raise errors.BadParameter("An Idempotency-Key has 1 to 255 characters.")
    return key
