"""Read, check and write a bundle's `model.json`; imports no torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from model.networks.spec import NetworkSpec
from model.packaging import validation_errors
from model.preprocessing.decode import Preprocess

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["InvalidBundle", "Manifest", "NetworkSpec", "SelfTest", "read", "write"]

MANIFEST_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "CARD.md"
FAMILIARITY_FILE = "familiarity.safetensors"  # optional
# The digest of a manifest whose weights are not written yet.
NO_DIGEST = "0" * 64

StoredPrecision = Literal["float32", "float16", "bfloat16"]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# As in core/intake/model_upload.py: names are part of URLs.
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]


class InvalidBundle(ValueError):
    """The bundle cannot be used; the message says why and what to do."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SelfTest:
    """The probabilities of the reference image when the bundle was made, and how far they may differ."""

    picture: str  # name of the reference image; a key of model.json
    probabilities: tuple[float, ...]
    tolerance: PositiveFloat


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Manifest:
    """A bundle's identity and everything needed to rebuild its network, except the weights.

    `metrics`, `data`, `recipe` and `libraries` document the training; nothing is computed from them.
    """

    format: Literal[1] = 1
    name: Slug
    version: Slug
    network: NetworkSpec
    labels: Annotated[tuple[str, ...], Field(description="in the order of the network's outputs")]
    preprocess: Preprocess
    precision: Annotated[StoredPrecision, Field(description="number format of the weights file")]
    temperature: Annotated[PositiveFloat, Field(description="divides the logits, to calibrate the confidence")]
    digest: Annotated[Sha256, Field(description="SHA-256 of the weights file")]
    familiarity_digest: Annotated[
        Sha256 | None, Field(description="SHA-256 of familiarity.safetensors; None without that file")
    ] = None
    selftest: SelfTest
    metrics: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _check_consistency(self) -> Manifest:
        count, network, preprocess = len(self.labels), self.network, self.preprocess
        if len(set(self.labels)) != count:
            raise ValueError("labels must be unique")
        if network.classes != count:
            raise ValueError(f"{count} labels do not fit a network of {network.classes} classes")
        if len(self.selftest.probabilities) != count:
            raise ValueError(f"selftest must have one probability per label, {count}")
        if (network.height, network.width) != (preprocess.height, preprocess.width):
            sizes = f"{preprocess.width} x {preprocess.height}, network takes {network.width} x {network.height}"
            raise ValueError(f"preprocess gives {sizes}")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        fields: dict[str, Any] = _SCHEMA.dump_python(self, mode="json")
        return fields


_SCHEMA = pydantic.TypeAdapter(Manifest)


def read(folder: Path) -> Manifest:
    """Read the manifest of the bundle in `folder`, without its weights.

    Raises:
        InvalidBundle: the file is missing, unreadable or invalid.
    """
    path = folder / MANIFEST_FILE
    try:
        return _SCHEMA.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise InvalidBundle(f"{folder} is not a bundle, it has no {MANIFEST_FILE}: give a bundle's folder.") from None
    except OSError as error:
        raise InvalidBundle(f"{path} cannot be read ({error.strerror}): restore it.") from error
    except pydantic.ValidationError as error:
        problem = validation_errors.first_error(error)
        raise InvalidBundle(f"{path} is invalid ({problem}): restore it, or use a newer sortbelt.") from error


def write(folder: Path, manifest: Manifest) -> None:
    """Write `model.json` into an existing folder."""
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", "utf-8")
