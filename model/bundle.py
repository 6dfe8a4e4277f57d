"""Keeps bundles on disk: one folder with weights, `model.json` and a card, written whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from model import files, networks
from model import manifest as manifests
from model.manifest import BadBundle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from model.preprocess import Preprocess

__all__ = ["BadBundle", "Bundle", "check_replaceable", "digest_of", "load", "rounded", "save"]

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_OTHER_WEIGHTS = {".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained network ready for use: on the CPU, in eval mode, in float32, with what explains it."""

    manifest: manifests.Manifest
    network: nn.Module

    @property
    def name(self) -> str:
        """The model's name, as jobs ask for it."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The version of this model; results carry it."""
        return self.manifest.version

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file, 64 hexadecimal digits; results carry it."""
        return self.manifest.digest

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the network's outputs."""
        return self.manifest.labels

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes this network's input."""
        return self.manifest.preprocess

    @property
    def temperature(self) -> float:
        """What the logits are divided by before the softmax, so that confidence is calibrated."""
        return self.manifest.temperature


def load(folder: Path | str) -> Bundle:
    """Reads a bundle, after checking that its weights are the ones that its manifest names.

    Raises:
        BadBundle: for a missing file, another digest, pickled weights, other shapes or non-finite weights.
    """
    folder = Path(folder)
    manifest = manifests.read(folder)
    _refuse_other_weights(folder)
    network = _network(manifest)
    network.load_state_dict(_weights(folder / manifests.WEIGHTS, manifest, network.state_dict()))
    return Bundle(manifest, network.eval().requires_grad_(requires_grad=False))


def save(folder: Path | str, network: nn.Module, manifest: manifests.Manifest, card: str) -> Bundle:
    """Writes a bundle into `folder` (replacing what is there) and returns it as `load` reads it back.

    The weights are stored at `manifest.precision`, and their digest is filled in here. Everything is written
    into a folder beside the target and renamed, so nobody meets half a bundle.
    """
    folder = Path(folder)
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch, "bundle")
        fresh.mkdir(mode=0o755)
        _write_weights(fresh / manifests.WEIGHTS, network, _PRECISIONS[manifest.precision])
        manifest = dataclasses.replace(manifest, digest=digest_of(fresh / manifests.WEIGHTS))
        manifests.write(fresh, manifest)
        (fresh / manifests.CARD).write_text(card, "utf-8")
        saved = load(fresh)
        _swap(fresh, folder, Path(scratch, "old"))
    return saved


def check_replaceable(folder: Path) -> None:
    """Raises BadBundle when something is there that is not a bundle: it would be lost."""
    is_bundle = folder.is_dir() and ((folder / manifests.FILE).is_file() or not any(folder.iterdir()))
    if folder.exists() and not is_bundle:
        raise BadBundle(f"{folder} is there and is not a bundle: it would be lost; choose another place.")


def rounded(network: nn.Module, manifest: manifests.Manifest) -> Bundle:
    """The bundle that `save` would write and `load` would give, without the disk; `network` stays."""
    copied = copy.deepcopy(network).to("cpu", _PRECISIONS[manifest.precision]).to(torch.float32)
    return Bundle(manifest, copied.eval().requires_grad_(requires_grad=False))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _network(manifest: manifests.Manifest) -> nn.Module:
    try:
        return networks.described(manifest.network)
    except ValueError as unknown:
        raise BadBundle(f"The bundle's network cannot be built: {unknown}") from unknown


def _refuse_other_weights(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _OTHER_WEIGHTS:
            raise BadBundle(f"{path} may hold pickled code; only {manifests.WEIGHTS} is read: remove it or convert it.")


def _weights(path: Path, manifest: manifests.Manifest, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file():
        raise BadBundle(f"{path} is missing: restore it from where the bundle came from.")
    try:
        # One read for both the digest and the weights: nobody can swap the file in between.
        data = path.read_bytes()
    except OSError as wrong:
        raise BadBundle(f"{path} cannot be read ({wrong.strerror}): change its permissions or restore it.") from wrong
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.digest:
        told = f"its digest is {digest[:12]}…, model.json says {manifest.digest[:12]}…"
        raise BadBundle(f"{path} is not the file that this bundle was made with ({told}): restore the bundle.")
    try:
        weights = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as wrong:
        raise BadBundle(f"{path} is not a safetensors file ({wrong}): restore the bundle.") from wrong
    _check(weights, expected, _PRECISIONS[manifest.precision], path)
    return {name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}


def _check(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], precision: torch.dtype, path: Path) -> None:
    found = {name: _kind(tensor, tensor.dtype) for name, tensor in weights.items()}
    wanted = {name: _kind(tensor, precision) for name, tensor in expected.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            told = f"{name} is {found.get(name, 'absent')} and should be {wanted.get(name, 'absent')}"
            raise BadBundle(f"{path} does not fit model.json ({told}): restore the bundle.")
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise BadBundle(
                f"{path} has NaN or infinity in {name}: the training diverged, or --precision was too coarse."
            )


def _kind(tensor: Tensor, precision: torch.dtype) -> str:
    """Its type as stored (only floating point is stored at another precision) and its shape."""
    stored = precision if tensor.is_floating_point() else tensor.dtype
    return f"{str(stored).removeprefix('torch.')} {tuple(tensor.shape)}"


def _write_weights(path: Path, network: nn.Module, precision: torch.dtype) -> None:
    stored = {
        name: tensor.detach().cpu().to(precision if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    # Not save_file: its file is readable by nobody but its owner.
    path.write_bytes(safetensors.torch.save(stored))


def _swap(fresh: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    if old.exists():
        shutil.rmtree(old)
    files.sync_folder(folder.parent)
