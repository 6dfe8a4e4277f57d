"""Request bodies with images or files: OpenAPI schemas, or models of JSON, by media type."""

from typing import Any

from api.schemas import job_requests, json_schema
from imaging import formats

# `format` is what client generators know, `contentMediaType` what OpenAPI 3.1 says.
_FILE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
_FILES = {"type": "array", "minItems": 1, "items": _FILE}
_IMAGES = {**_FILES, "description": "one image each, with a file name, which is its name in the results"}
_RAW_IMAGE = {
    "image/*": {
        "schema": {
            "type": "string",
            "format": "binary",
            "contentMediaType": "image/jpeg",
            "description": f"one image, as {formats.FORMAT_LIST}",
        }
    }
}


def _form(properties: dict[str, Any], required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [required], "additionalProperties": False}
    return {"multipart/form-data": {"schema": schema}}


def _form_fields(model: Any) -> dict[str, Any]:
    return dict(json_schema.without_defaults(json_schema.form_schema(model)["properties"]))


SUBMISSION = {
    **_form({"images": _IMAGES, **_form_fields(job_requests.FormSubmission)}, "images"),
    **_RAW_IMAGE,
    "application/json": job_requests.JsonSubmission,
}
IMAGES = {
    **_form({"images": _IMAGES, **_form_fields(job_requests.CustomIdsForm)}, "images"),
    **_RAW_IMAGE,
    "application/json": job_requests.ImageReferences,
}
BUNDLE = _form({"files": {**_FILES, "description": "one file of the bundle each, with its name"}}, "files")
