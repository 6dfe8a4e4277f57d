"""Load and save bundles: a folder with weights, `model.json` and a model card."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model.packaging import atomic_files, familiarity_file, weights_file
from model.packaging import manifest as manifests
from model.packaging.atomic_files import sha256_file
from model.packaging.manifest import InvalidBundle

if TYPE_CHECKING:
    from torch import nn

    from model.packaging.familiarity_file import Familiarity
    from model.preprocessing.decode import Preprocess

__all__ = ["Bundle", "InvalidBundle", "check_overwritable", "load", "round_to_stored", "save"]

_PICKLE_SUFFIXES = {".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained network on the CPU, in eval mode and float32, with its manifest; older bundles have no familiarity."""

    manifest: manifests.Manifest
    network: nn.Module
    familiarity: Familiarity | None = None

    @property
    def name(self) -> str:
        """The model's name, as jobs request it."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The version of the model, stored with every result."""
        return self.manifest.version

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights file in hexadecimal, stored with every result."""
        return self.manifest.digest

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the network's outputs."""
        return self.manifest.labels

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the network's input."""
        return self.manifest.preprocess

    @property
    def temperature(self) -> float:
        """The divisor of the logits that calibrates the confidence."""
        return self.manifest.temperature


def load(folder: Path | str) -> Bundle:
    """Load a bundle and check that its weights are the file that its manifest names.

    Raises:
        InvalidBundle: a file is missing, a digest differs, or weights are pickled, misshapen or not finite.
    """
    folder = Path(folder)
    manifest = manifests.read(folder)
    _reject_pickles(folder)
    network = weights_file.decode(_read_checked(folder / manifests.WEIGHTS_FILE, manifest.digest), manifest, folder)
    familiarity = None
    if manifest.familiarity_digest:
        path = folder / manifests.FAMILIARITY_FILE
        familiarity = familiarity_file.decode(_read_checked(path, manifest.familiarity_digest), path)
    return Bundle(manifest, network.eval().requires_grad_(requires_grad=False), familiarity)


def save(
    folder: Path | str,
    network: nn.Module,
    manifest: manifests.Manifest,
    card: str,
    familiarity: Familiarity | None = None,
) -> Bundle:
    """Write a bundle to `folder`, replacing a bundle there, and return it as `load` does.

    The weights are stored at `manifest.precision`; the manifest's digests are replaced by those of the files.
    """
    folder = Path(folder)
    check_overwritable(folder)
    with atomic_files.replace_folder(folder) as staging:
        # Not save_file, which makes the file readable by its owner only.
        (staging / manifests.WEIGHTS_FILE).write_bytes(weights_file.encode(network, manifest.precision))
        digest, familiarity_digest = sha256_file(staging / manifests.WEIGHTS_FILE), None
        if familiarity:
            (staging / manifests.FAMILIARITY_FILE).write_bytes(familiarity_file.encode(familiarity))
            familiarity_digest = sha256_file(staging / manifests.FAMILIARITY_FILE)
        saved_manifest = dataclasses.replace(manifest, digest=digest, familiarity_digest=familiarity_digest)
        manifests.write(staging, saved_manifest)
        (staging / manifests.CARD_FILE).write_text(card, "utf-8")
        return load(staging)


def check_overwritable(folder: Path) -> None:
    """Raise InvalidBundle if `folder` exists and is neither a bundle nor empty."""
    is_bundle = folder.is_dir() and ((folder / manifests.MANIFEST_FILE).is_file() or not any(folder.iterdir()))
    if folder.exists() and not is_bundle:
        raise InvalidBundle(f"{folder} exists and is not a bundle: choose another folder, it would be overwritten.")


def round_to_stored(network: nn.Module, manifest: manifests.Manifest, familiarity: Familiarity | None = None) -> Bundle:
    """Return the bundle that `save` and `load` would give, with a rounded copy of the network."""
    rounded_network = copy.deepcopy(network).to("cpu", weights_file.STORED_DTYPES[manifest.precision]).to(torch.float32)
    return Bundle(manifest, rounded_network.eval().requires_grad_(requires_grad=False), familiarity)


def _reject_pickles(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _PICKLE_SUFFIXES:
            raise InvalidBundle(f"{path} may contain pickled code: remove it, or convert it to safetensors.")


def _read_checked(path: Path, expected_digest: str) -> bytes:
    """Return a file's bytes, whose SHA-256 must be the manifest's."""
    try:
        # Hash and parse the same bytes: the file may be replaced between two reads.
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidBundle(f"{path} is missing: restore the bundle.") from None
    except OSError as error:
        raise InvalidBundle(
            f"{path} cannot be read ({error.strerror}): change its permissions or restore it."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected_digest:
        problem = f"its digest is {digest[:12]}…, model.json says {expected_digest[:12]}…"
        raise InvalidBundle(f"{path} is not the file that this bundle was saved with ({problem}): restore the bundle.")
    return data
