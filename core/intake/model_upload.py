"""Uploaded bundles: checked without torch, then stored as blobs and as a row of the model registry.

The checks are against hostile files: content other than weights, or weights that do not match their `model.json`.
Whether the network runs is tested by a worker before it serves the model.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from core import errors, json_values
from core.db import database
from core.db.queries import models
from core.intake import tensor_files
from core.storage import base

WEIGHTS, MANIFEST, CARD = "weights.safetensors", "model.json", "CARD.md"
FAMILIARITY = "familiarity.safetensors"  # optional
MAX_FAMILIARITY_BYTES = 16_000_000
MAX_TEXT_BYTES = 1_000_000

Slug = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", strict=True)]


class Manifest(pydantic.BaseModel):
    """The fields of a `model.json` that the registry needs."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    format: Literal[1] = pydantic.Field(description="1")
    name: Slug = pydantic.Field(description="1 to 100 of a-z, 0-9, '.', '_' and '-'")
    version: Slug = pydantic.Field(description="1 to 100 of a-z, 0-9, '.', '_' and '-'")
    digest: str = pydantic.Field(pattern="^[0-9a-f]{64}$", description="the SHA-256 of the weights")
    familiarity_digest: str | None = pydantic.Field(
        None, pattern="^[0-9a-f]{64}$", description="the SHA-256 of familiarity.safetensors"
    )
    labels: list[Annotated[str, pydantic.Field(max_length=255)]] = pydantic.Field(
        min_length=2, description="a list of at least two texts"
    )
    network: dict[str, Any] = pydantic.Field(description="an object")
    preprocess: dict[str, Any] = pydantic.Field(description="an object")


def register_bundle(
    db: database.Database, blob_store: base.BlobStore, files: Mapping[str, bytes], created_by: str
) -> tuple[Any, bool]:
    """Store a bundle, its files as blobs, then its row. Return the row, and whether it is new.

    Raises:
        errors.BundleRejected: it is not a valid bundle.
        errors.VersionConflict: its version exists with other content.
        errors.ServiceUnavailable: the database or the blob store does not answer; nothing was registered.
    """
    manifest = validate_bundle(files)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    blob_store.put((digests[name], data) for name, data in files.items())
    return db.write(models.add, manifest, digests, created_by)


def validate_bundle(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Check a bundle and return its manifest.

    Raises:
        errors.BundleRejected: the bundle is incomplete, or its files do not match each other.
    """
    _validate_file_names(files)
    manifest = _parse_manifest(files[MANIFEST])
    _decode_text(CARD, files[CARD])
    tensor_files.validate(WEIGHTS, files[WEIGHTS])
    _check_digest(WEIGHTS, files[WEIGHTS], manifest["digest"])
    if (FAMILIARITY in files) != bool(manifest.get("familiarity_digest")):
        raise errors.BundleRejected(
            f"{MANIFEST} must have the digest of {FAMILIARITY} if the bundle contains that file."
        )
    if FAMILIARITY in files:
        _validate_familiarity(files[FAMILIARITY], manifest["familiarity_digest"])
    return manifest


def _validate_familiarity(data: bytes, digest: str) -> None:
    if len(data) > MAX_FAMILIARITY_BYTES:
        problem = f"{FAMILIARITY} has {len(data):,} bytes"
        raise errors.BundleRejected(f"{problem}; at most {MAX_FAMILIARITY_BYTES:,} are accepted.")
    tensor_files.validate(FAMILIARITY, data)
    _check_digest(FAMILIARITY, data, digest)


def _check_digest(name: str, data: bytes, expected: str) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        mismatch = f"its SHA-256 is {digest[:12]}…, {MANIFEST} says {expected[:12]}…"
        raise errors.BundleRejected(f"{name} does not match {MANIFEST}: {mismatch}. Save the bundle again.")


def _validate_file_names(files: Mapping[str, bytes]) -> None:
    expected = (WEIGHTS, MANIFEST, CARD)
    for name in files:
        if name not in (*expected, FAMILIARITY):
            contents = f"contains {', '.join(expected)} and may contain {FAMILIARITY}"
            raise errors.BundleRejected(f"{name[:100]!r} is not a file of a bundle, which {contents}; leave it out.")
    for name in expected:
        if not files.get(name):
            raise errors.BundleRejected(
                f"The bundle has no {name}, or an empty one; it must contain {', '.join(expected)}."
            )


def _parse_manifest(data: bytes) -> dict[str, Any]:
    text = _decode_text(MANIFEST, data)
    try:
        fields = json_values.parse_json(text)
        json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise errors.BundleRejected(f"{MANIFEST} cannot be read as JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise errors.BundleRejected(f"{MANIFEST} must hold one JSON object.")
    try:
        manifest = Manifest.model_validate(fields)
    except pydantic.ValidationError as error:
        raise errors.BundleRejected(f"In {MANIFEST}, " + " ".join(_error_message(e) for e in error.errors())) from None
    if len(set(manifest.labels)) != len(manifest.labels) or manifest.network.get("classes") != len(manifest.labels):
        raise errors.BundleRejected(
            f"In {MANIFEST}, the labels must be different, and as many as the network's classes."
        )
    return fields


def _error_message(error: Any) -> str:
    name = str(error["loc"][0])
    return json_values.error_message(name, error, Manifest.model_fields[name].description)


def _decode_text(name: str, data: bytes) -> str:
    if len(data) > MAX_TEXT_BYTES:
        raise errors.BundleRejected(f"{name} has {len(data):,} bytes; at most {MAX_TEXT_BYTES:,} are accepted.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise errors.BundleRejected(f"{name} is not UTF-8 text; save it again.") from None
    if "\0" in text or "\\u0000" in text:
        raise errors.BundleRejected(f"{name} contains the character NUL; remove it.")
    return text
