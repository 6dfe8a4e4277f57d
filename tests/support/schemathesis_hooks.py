"""Schemathesis hooks: how to make an image, and constraints that no schema can express."""

import hashlib
import json
import re
import uuid

import schemathesis
from hypothesis import strategies

from tests.support import factories

KNOWN_DIGEST = hashlib.sha256(factories.make_image()).hexdigest()
DIGEST_PATTERN = re.compile("[0-9a-f]{64}")
PRINTABLE_PATTERN = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,1024}")
KNOWN_SOURCE = {"source": "photos", "prefix": "2026"}
WEBHOOK_URL_PATTERN = re.compile("https?:.{0,2042}", re.DOTALL)
schemathesis.openapi.media_type("image/*", strategies.integers(0, 3).map(factories.make_image))


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Replace generated values that are valid by the schema, but cannot succeed.

    These are unknown models, sources, digests and image ids, long waits, unreachable webhooks, repeated idempotency
    keys, comparisons of a version with a name, and custom ids for images that the request does not have.
    """
    if case.operation.path.endswith(("/thumbnail", "/preview", "/file")) and re.fullmatch(
        r"\d{1,3}", str(case.path_parameters["image_id"])
    ):
        case.path_parameters["image_id"] = "1"
    if case.query and re.fullmatch(r"[12]?\d(\.\d+)?", str(case.query.get("wait", ""))):
        case.query["wait"] = min(float(case.query["wait"]), 1)
    if case.query and case.operation.path == "/v1/models/compare" and "@" in str(case.query.get("a")):
        case.query["b"] = case.query["a"] if "@" in str(case.query.get("b")) else case.query.get("b")
    _name_model_of_queue(case)
    _drop_raw_image_fields(case)
    _drop_unknown_filters(case.query or {})
    for params in filter(lambda value: isinstance(value, dict), (case.query, case.body)):
        _replace_unlikely_values(params)
    if isinstance(case.body, dict) and isinstance(case.body.get("images"), list):
        case.body["images"] = case.body["images"][:1]
        for reference in case.body["images"]:
            if isinstance(reference, dict):
                _replace_origin(reference)
    if getattr(case.meta.phase.data, "parameter", None) == "Authorization":
        return  # this case omits the header; changing another header would restore it
    if 0 < len((case.headers or {}).get("Idempotency-Key") or "") <= 255:
        case.headers = {**case.headers, "Idempotency-Key": str(uuid.uuid4())}


def _name_model_of_queue(case):
    """Name the model whose results are reviewed: it may be left out only if exactly one model is live."""
    if case.operation.path == "/v1/reviews/queue":
        case.query = {"model": "food@1", **(case.query or {})}


def _replace_origin(reference):
    """Replace the origin of an image that is not known, or would be fetched."""
    if DIGEST_PATTERN.fullmatch(str(reference.get("sha256"))):
        reference["sha256"] = KNOWN_DIGEST
    if (
        WEBHOOK_URL_PATTERN.fullmatch(str(reference.get("url")))
        and not reference.get("sha256")
        and reference.get("data") is None
    ):
        del reference["url"]
        reference["sha256"] = KNOWN_DIGEST


def _drop_raw_image_fields(case):
    """Remove query parameters of raw image uploads from requests with a form or JSON body."""
    query = case.query if isinstance(case.body, dict) and case.query else {}
    for field, max_length in (("name", 1024), ("custom_id", 255)):
        text = query.get(field)
        is_printable = isinstance(text, str) and PRINTABLE_PATTERN.fullmatch(text)
        # A name may have control characters, which are escaped; an identifier may not.
        if isinstance(text, str) and (is_printable or field == "name") and 0 < len(text) <= max_length:
            del query[field]


def _drop_unknown_filters(query):
    """Remove the filters whose values must exist, unless they are malformed."""
    for name in ("label", "version", "error", "owner"):
        if query.get(name) == "" or PRINTABLE_PATTERN.fullmatch(str(query.get(name, "\0"))):
            del query[name]


def _replace_unlikely_values(params):
    if isinstance(params.get("model"), str):
        params["model"] = factories.MODEL
    for name, known_value in KNOWN_SOURCE.items():
        if isinstance(params.get(name), str) and PRINTABLE_PATTERN.fullmatch(params[name]):
            params[name] = known_value
    if WEBHOOK_URL_PATTERN.fullmatch(str(params.get("webhook"))):
        params["webhook"] = "https://hooks.example/"
    if "\\u0000" in json.dumps(params.get("metadata"), default=str):
        params["metadata"] = {}
    if isinstance(params.get("custom_ids"), dict):
        params["custom_ids"] = {}
