"""Keeps what a bundle says about itself: the contents of `model.json`, read without torch."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal

from model import preprocess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "model.json"
WEIGHTS = "weights.safetensors"
CARD = "CARD.md"
FORMAT = 1
# What a manifest holds until `bundle.save` has written the weights.
NO_DIGEST = "0" * 64

StoredPrecision = Literal["float32", "float16", "bfloat16"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BadBundle(ValueError):
    """A bundle that must not be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What `networks.described` needs to make the network again.

    `members` networks answer together; when `mirrored`, each is asked about the picture's mirror image too.
    """

    name: str
    classes: int
    height: int
    width: int
    members: int = 1
    mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """The probabilities that the network gave for a drawn picture when the bundle was made."""

    picture: str
    probabilities: tuple[float, ...]
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One bundle's identity and everything needed to rebuild its network, but the weights.

    `digest` is the SHA-256 of the weights file. `metrics`, `data`, `recipe` and `libraries` are for people
    and for comparing bundles; nothing is computed from them.
    """

    name: str
    version: str
    network: Network
    labels: tuple[str, ...]
    preprocess: preprocess.Preprocess
    precision: StoredPrecision
    temperature: float
    digest: str
    selftest: SelfTest
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    libraries: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for trouble in _troubles(self):
            raise BadBundle(f"model.json is not usable: {trouble}.")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, with the number of the format."""
        fields: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(self)}
        fields["preprocess"] = self.preprocess.to_json()
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`; raises BadBundle for anything else."""
        if fields.get("format") != FORMAT:
            newer = f"format {fields.get('format')!r}, and this version of sortbelt reads format {FORMAT}"
            raise BadBundle(f"model.json has {newer}: train again or use the matching version.")
        known = {name: value for name, value in fields.items() if name != "format"}
        try:
            known["network"] = Network(**known["network"])
            known["labels"] = tuple(known["labels"])
            known["preprocess"] = preprocess.Preprocess.from_json(known["preprocess"])
            known["selftest"] = _selftest(known["selftest"])
            return cls(**known)
        except KeyError as missing:
            raise BadBundle(f"model.json has no {missing}: restore it from where the bundle came from.") from None
        except (TypeError, ValueError, AttributeError) as wrong:
            if isinstance(wrong, BadBundle):
                raise
            raise BadBundle(f"model.json is not usable: {wrong}") from wrong


def read(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`: cheap, and without a look at the weights.

    Raises:
        BadBundle: when there is none, or it is not complete.
    """
    try:
        fields = json.loads((folder / FILE).read_text("utf-8"))
    except FileNotFoundError:
        raise BadBundle(f"{folder} is not a bundle: it has no {FILE}; give the folder of a bundle.") from None
    except (OSError, ValueError) as wrong:
        raise BadBundle(f"{folder / FILE} cannot be read as JSON ({wrong}); restore it.") from wrong
    if not isinstance(fields, dict):
        raise BadBundle(f"{folder / FILE} must hold one JSON object; restore it.")
    return Manifest.from_json(fields)


def write(folder: Path, manifest: Manifest) -> None:
    """Writes `model.json` into an existing folder."""
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    (folder / FILE).write_text(text + "\n", "utf-8")


def _selftest(fields: Mapping[str, Any]) -> SelfTest:
    return SelfTest(fields["picture"], tuple(fields["probabilities"]), fields["tolerance"])


def _troubles(manifest: Manifest) -> list[str]:
    labels, network, expected = manifest.labels, manifest.network, manifest.selftest.probabilities
    size = (manifest.preprocess.height, manifest.preprocess.width)
    texts = (manifest.name, manifest.version, manifest.digest, network.name, *labels)
    if not all(isinstance(text, str) for text in texts):
        return ["name, version, digest, network and labels must be texts"]
    checks = {
        f"the name {manifest.name!r} may hold only a-z, 0-9, '.', '_' and '-'": _NAME.fullmatch(manifest.name),
        f"the version {manifest.version!r} may hold only a-z, 0-9, '.', '_' and '-'": _NAME.fullmatch(manifest.version),
        "digest must be 64 hexadecimal digits": _DIGEST.fullmatch(manifest.digest),
        "labels must be different from each other": len(set(labels)) == len(labels),
        f"{len(labels)} labels do not fit {network.classes} classes": len(labels) == network.classes,
        f"the preprocessing makes {size}, the network takes {(network.height, network.width)}": size
        == (network.height, network.width),
        f"precision {manifest.precision!r} is unknown": manifest.precision in ("float32", "float16", "bfloat16"),
        "temperature must be a number above zero": _above_zero(manifest.temperature),
        f"{network.members!r} members do not make a network": type(network.members) is int and network.members >= 1,
        "the self-test must have one probability a label": len(expected) == len(labels),
        "the self-test's tolerance must be a number above zero": _above_zero(manifest.selftest.tolerance),
    }
    return [trouble for trouble, fine in checks.items() if not fine]


def _above_zero(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number) and number > 0
