"""Uploaded bundles: judged without torch, then kept as blobs and as a row of the registry.

What is checked here is what a stranger's file must not be: something else than weights, or other weights than its
`model.json` tells of. Whether the network runs is seen by a worker, before it serves it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from jobs import blobs, database, errors, validation
from jobs.store import models

WEIGHTS, MANIFEST, CARD = "weights.safetensors", "model.json", "CARD.md"
MOST_TEXT_BYTES = 1_000_000
MOST_HEADER_BYTES = 10_000_000
MOST_DIMENSIONS = 16
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
BITS |= {"I64": 64, "U64": 64, "F64": 64}
ARCHIVES = {b"PK": "a zip archive, as torch.save writes them", b"\x80": "a pickle", b"\x1f\x8b": "compressed"}

Slug = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", strict=True)]


class Manifest(pydantic.BaseModel):
    """What the registry needs of a `model.json`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    format: Literal[1] = pydantic.Field(description="1")
    name: Slug = pydantic.Field(description="1 to 100 of a-z, 0-9, '.', '_' and '-'")
    version: Slug = pydantic.Field(description="1 to 100 of a-z, 0-9, '.', '_' and '-'")
    digest: str = pydantic.Field(pattern="^[0-9a-f]{64}$", description="the SHA-256 of the weights")
    labels: list[Annotated[str, pydantic.Field(max_length=255)]] = pydantic.Field(
        min_length=2, description="a list of at least two texts"
    )
    network: dict[str, Any] = pydantic.Field(description="an object")
    preprocess: dict[str, Any] = pydantic.Field(description="an object")


def take_in(db: database.Database, store: blobs.Blobs, files: Mapping[str, bytes], who: str) -> tuple[Any, bool]:
    """Keep a bundle: its files as blobs, then its row; the row, and whether it is new.

    Raises:
        errors.BadBundle: it is no bundle that may be used.
        errors.VersionTaken: its version is there already, with other content.
        errors.Unavailable: the database or the blobs do not answer; nothing was taken in.
    """
    manifest = examine(files)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    store.put((digests[name], data) for name, data in files.items())
    return db.write(models.add, manifest, digests, who)


def examine(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of a bundle that may be taken in.

    Raises:
        errors.BadBundle: the bundle is not complete, or its files do not fit each other.
    """
    _look_at_names(files)
    manifest = _manifest(files[MANIFEST])
    _text(CARD, files[CARD])
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    look_at_weights(files[WEIGHTS])
    if manifest["digest"] != digest:
        told = f"their SHA-256 is {digest[:12]}…, {MANIFEST} says {manifest['digest'][:12]}…"
        raise errors.BadBundle(f"The weights are not those that {MANIFEST} tells of: {told}.")
    return manifest


def look_at_weights(data: bytes) -> None:
    """See that bytes are a whole safetensors file: a header of JSON, then exactly the tensors that it names.

    Raises:
        errors.BadBundle: they are not.
    """
    for mark, what in ARCHIVES.items():
        if data.startswith(mark) and data[8:9] != b"{":  # the length of a header may begin with the same bytes
            raise errors.BadBundle(f"{WEIGHTS} is {what}: only safetensors are taken, because they can run no code.")
    header, body = _header(data)
    spans = sorted(_span(name, tensor) for name, tensor in header.items() if name != "__metadata__")
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise _no_safetensors(f"tensor {name!r} does not begin where the one before it ends")
        end = stop
    if end != body:
        raise _no_safetensors(f"its header tells of {end:,} bytes of tensors, and {body:,} are there")


def _look_at_names(files: Mapping[str, bytes]) -> None:
    wanted = (WEIGHTS, MANIFEST, CARD)
    for name in files:
        if name not in wanted:
            raise errors.BadBundle(f"{name[:100]!r} has no place in a bundle: it holds {', '.join(wanted)}.")
    for name in wanted:
        if not files.get(name):
            raise errors.BadBundle(f"The bundle has no {name}, or an empty one: it holds {', '.join(wanted)}.")


def _manifest(data: bytes) -> dict[str, Any]:
    text = _text(MANIFEST, data)
    try:
        fields = validation.parse(text)
        json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise errors.BadBundle(f"{MANIFEST} cannot be read as JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise errors.BadBundle(f"{MANIFEST} must hold one JSON object.")
    try:
        known = Manifest.model_validate(fields)
    except pydantic.ValidationError as error:
        raise errors.BadBundle(f"In {MANIFEST}, " + " ".join(_sentence(e) for e in error.errors())) from None
    if len(set(known.labels)) != len(known.labels) or known.network.get("classes") != len(known.labels):
        raise errors.BadBundle(f"In {MANIFEST}, the labels must be different, and as many as the network's classes.")
    return fields


def _sentence(error: Any) -> str:
    name = str(error["loc"][0])
    return validation.sentence(name, error, Manifest.model_fields[name].description)


def _text(name: str, data: bytes) -> str:
    if len(data) > MOST_TEXT_BYTES:
        raise errors.BadBundle(f"{name} has {len(data):,} bytes; at most {MOST_TEXT_BYTES:,} are taken.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise errors.BadBundle(f"{name} is no text in UTF-8.") from None
    if "\0" in text or "\\u0000" in text:
        raise errors.BadBundle(f"{name} holds the character NUL; take it out.")
    return text


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and how many bytes come after it."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MOST_HEADER_BYTES):
        raise _no_safetensors("its header is cut off or too long")
    try:
        header = validation.parse(data[8 : 8 + size].decode())
    except ValueError as error:
        raise _no_safetensors(f"its header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise _no_safetensors("its header is no JSON object")
    return header, len(data) - 8 - size


def _span(name: str, tensor: Any) -> tuple[int, int, str]:
    """Where a tensor begins and ends, if that fits its type and shape."""
    try:
        start, stop = tensor["data_offsets"]
        whole = [start, stop, *tensor["shape"]]
        fits = len(tensor["shape"]) <= MOST_DIMENSIONS
        fits = fits and stop - start == math.prod(tensor["shape"]) * BITS[tensor["dtype"]] // 8
    except (KeyError, TypeError, ValueError):
        fits, whole, start, stop = False, [], 0, 0
    if not fits or not all(type(number) is int and number >= 0 for number in whole):
        raise _no_safetensors(f"tensor {name[:100]!r} is not described as a tensor is")
    return start, stop, name


def _no_safetensors(why: str) -> errors.BadBundle:
    return errors.BadBundle(f"{WEIGHTS} is no whole safetensors file: {why}; save the bundle anew.")
