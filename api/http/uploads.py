"""Submissions in requests: the options of a job, and its images as multipart parts, one raw body, or references."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import flask

from api.http import requests
from api.schemas import base, job_requests
from api.services import container
from core import enums, errors
from core.db.queries import api_keys, jobs
from core.intake import service

JsonModel = TypeVar("JsonModel", bound=base.RequestModel)
FormModel = TypeVar("FormModel", bound=job_requests.CustomIdsForm)
IMAGES_FIELDS = re.compile(r"(images?|file)(\[[0-9]*\])?")
"""The names that libraries and browsers give the parts with images."""
IMAGE_PROBLEMS = ["no_images", "duplicate_name", "too_many_images", "unknown_blob"]
"""Codes of requests whose images cannot be accepted."""
RAW_BODY_PROBLEMS = ["empty", "too_large", "undecodable"]
"""Codes of submissions whose raw body is not an image; an image in a form fails by itself instead."""


@dataclass(frozen=True)
class ParsedSubmission:
    """A submission: the job, its images, and whether an invalid image rejects the whole of it."""

    job: jobs.NewJob
    images: Sequence[service.SubmittedImage]
    reject_invalid: bool


def parse_submission(
    query: job_requests.RawSubmission, caller: api_keys.Caller, default_model: str
) -> ParsedSubmission:
    """Read a submission from JSON, a form, or the URL's parameters with a raw body.

    Raises:
        errors.BadParameter: a field is not acceptable.
        errors.NoImages: there are no images, and the job is not an open one.
    """
    request = flask.request
    is_raw, is_open = False, False
    images: Sequence[service.SubmittedImage]
    if request.is_json:
        submission = _parse_json(job_requests.JsonSubmission)
        if not (submission.open or submission.images):
            raise errors.BadParameter(f"The JSON has neither `images` nor `open`. {submission.example}")
        options: job_requests.JobOptions = submission
        images, is_open = _to_submitted(submission.images), submission.open
    elif request.mimetype == "multipart/form-data":
        options, images = _read_form(job_requests.FormSubmission)
    else:
        options, images, is_raw = query, [_read_raw_image(query)], True
    # A single raw image is likely to have a person waiting for it; a form is likely to be a folder.
    priority = options.priority or ("interactive" if is_raw else "bulk")
    job = jobs.NewJob(
        owner=caller.id,
        model=options.model or default_model,
        name=options.job_name,
        priority=enums.Priority[priority.upper()],
        metadata=options.metadata,
        idempotency_key=requests.idempotency_key(),
        sealed=not is_open,
        expires_in=options.expires_in,
        fresh=options.fresh,
        webhook_url=options.webhook,
        public_base_url=request.url_root if options.webhook else None,
        key_quotas=caller.key_quotas,
    )
    return ParsedSubmission(job, images, reject_invalid=is_raw)


def parse_images(query: job_requests.RawImageParams) -> Sequence[service.SubmittedImage]:
    """Read the images for an open job: every part named `images`, the raw body, or JSON.

    Raises:
        errors.NoImages: there are none.
        errors.BadParameter: the form or the JSON cannot be read, or has an unknown field.
    """
    if flask.request.is_json:
        return _to_submitted(_parse_json(job_requests.ImageReferences).images)
    if flask.request.mimetype == "multipart/form-data":
        return _read_form(job_requests.CustomIdsForm)[1]
    return [_read_raw_image(query)]


def read_bundle(max_bytes: int) -> dict[str, bytes]:
    """Read the files of a model's bundle by name: every part named `files`, at most `max_bytes` in all.

    Raises:
        errors.BundleRejected: there are none, or two of one name.
        errors.BadParameter: the form cannot be read.
    """
    flask.request.max_content_length = max_bytes
    requests.parse_form(base.NoFields, "files")
    files = [(part.filename or "", part.read()) for part in flask.request.files.getlist("files")]
    if not files or len(dict(files)) < len(files):
        raise errors.BundleRejected("Send each file of the bundle once, as a multipart/form-data part named `files`.")
    return dict(files)


def _read_form(model: type[FormModel]) -> tuple[FormModel, list[service.Upload]]:
    form = requests.parse_form(model, "images", IMAGES_FIELDS)
    if any(map(IMAGES_FIELDS.fullmatch, flask.request.form)):
        raise errors.NoImages("A part `images` has no file name: send one, as in `-F images=@lunch.jpg`.")
    custom_ids = form.custom_ids
    uploads = [
        service.Upload(part.filename or "", part.read(), custom_ids.get(part.filename or ""))
        for _, part in flask.request.files.items(multi=True)
    ]
    if not uploads:
        raise errors.NoImages
    if custom_ids and (unmatched := set(custom_ids) - {upload.name for upload in uploads}):
        raise errors.BadParameter(f"custom_ids names {min(unmatched)[:100]!r}; the form has no image of that name.")
    return form, uploads


def _read_raw_image(query: job_requests.RawImageParams) -> service.Upload:
    mimetype = flask.request.mimetype
    if not (mimetype.startswith("image/") or mimetype in ("application/octet-stream", "")):
        raise errors.NoImages(
            "Send images as multipart/form-data parts named `images`, one image as the raw body with "
            "`Content-Type: image/jpeg`, or JSON with `Content-Type: application/json`; "
            f"yours was {mimetype:.100}."
        )
    data = flask.request.get_data(cache=False)
    if not mimetype and data.lstrip()[:1] == b"{":  # which no image format begins with
        raise errors.BadParameter("The body looks like JSON: send it with `Content-Type: application/json`.")
    return service.Upload("image" if query.name is None else query.name, data, query.custom_id)


def _parse_json(model: type[JsonModel]) -> JsonModel:
    """Validate a JSON body that may have images in base64.

    Raises:
        errors.BadParameter: a field is not acceptable.
        errors.TooManyImages: there are too many images. None of them was validated: each might be several errors.
        werkzeug.exceptions.RequestEntityTooLarge: it is larger than such a body may be.
    """
    services = container.services()
    max_bytes = max(services.settings.max_base64_bytes, requests.MAX_JSON_BYTES)
    return requests.parse_json_body(model, max_bytes, lambda value: _check_count(services.intake, value))


def _check_count(intake: service.SubmissionService, value: dict[str, Any]) -> None:
    images = value.get("images")
    if isinstance(images, list):
        intake.check_count(len(images))


def _to_submitted(references: Sequence[job_requests.ImageReference]) -> list[service.SubmittedImage]:
    return [_to_submitted_image(index, reference) for index, reference in enumerate(references)]


def _to_submitted_image(index: int, reference: job_requests.ImageReference) -> service.SubmittedImage:
    if reference.url is not None:
        return service.UrlReference(reference.name, reference.url, reference.custom_id)
    if reference.sha256 is not None:
        return service.BlobReference(reference.name, reference.sha256, reference.custom_id)
    data = reference.data or ""
    try:
        encoded = data.split(",", 1)[1] if data.startswith("data:") and "," in data else data
        return service.Upload(reference.name, base64.b64decode(encoded, validate=True), reference.custom_id)
    except ValueError as error:
        detail = (
            f"The data of {reference.name[:100]!r} is not base64 ({error}); encode its bytes by RFC 4648, section 4."
        )
        fault = errors.Fault(f"#/images/{index}/data", errors.BadParameter.code, detail, reference.name)
        raise errors.BadParameter(detail, [fault]) from None
