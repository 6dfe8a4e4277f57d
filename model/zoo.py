"""Keeps torchvision's classifiers by name, and weights to start from.

torchvision is imported when one of them is asked for: a worker that serves a network of ours never pays for it.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

# What --weights is told to take torchvision's own.
PRETRAINED = "pretrained"
# Below it the networks run, but their last maps are smaller than their filters.
SMALLEST = 32
_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_WITHOUT_SIDE_HEADS = {"aux_logits": False, "init_weights": True}


def names() -> list[str]:
    """Every classifier of torchvision."""
    from torchvision import models  # noqa: PLC0415 - see above

    found: list[str] = models.list_models(module=models)
    return found


def build(name: str, classes: int, height: int, width: int) -> nn.Module:
    """A fresh network of torchvision for so many classes.

    Raises:
        ValueError: when it cannot take pictures of this size.
    """
    from torchvision import models  # noqa: PLC0415 - see above

    if min(height, width) < SMALLEST:
        raise ValueError(f"{name} needs pictures of at least {SMALLEST} x {SMALLEST} pixels, not {width} x {height}.")
    try:
        built: nn.Module = models.get_model(name, weights=None, num_classes=classes, **_arguments(name, height, width))
    except (ValueError, AssertionError) as wrong:
        told = str(wrong).splitlines()[0]
        raise ValueError(f"{name} cannot take pictures of {width} x {height}: {told}") from wrong
    return built


def weights(name: str, source: str) -> Mapping[str, Tensor]:
    """Weights for a network: torchvision's own when `source` is "pretrained", else those of a .safetensors file.

    Raises:
        ValueError: when they cannot be had.
    """
    return _pretrained(name) if source == PRETRAINED else _from_file(Path(source))


def normalisation(name: str) -> tuple[int, tuple[float, float, float], tuple[float, float, float]]:
    """Side, mean and std of the pictures that torchvision's own weights for this network were trained with."""
    from torchvision import models  # noqa: PLC0415 - see above

    shown = models.get_model_weights(name).DEFAULT.transforms()
    return int(shown.crop_size[0]), tuple(shown.mean), tuple(shown.std)


def _pretrained(name: str) -> Mapping[str, Tensor]:
    from torchvision import models  # noqa: PLC0415 - see above

    if name not in names():
        raise ValueError(f"There are no pre-trained weights for {name}: give --weights FILE, or leave it out.")
    best = models.get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Tensor] = best.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as wrong:
        told = f"{best.url} cannot be had ({wrong})"
        raise ValueError(
            f"{told}: get it elsewhere, convert it to .safetensors and give it as --weights FILE."
        ) from wrong
    return state


def _from_file(path: Path) -> Mapping[str, Tensor]:
    if path.suffix.lower() in _PICKLES:
        old, new = (json.dumps(str(place)) for place in (path, path.with_suffix(".safetensors")))
        code = f"import safetensors.torch, torch; w = torch.load({old}, weights_only=True)"
        code += f"; safetensors.torch.save_file({{n: t.clone() for n, t in w.items()}}, {new})"
        command = f"python -c {shlex.quote(code)}"
        raise ValueError(f"{path} is a pickle, which may hold code. Convert it with: {command}")
    try:
        loaded: Mapping[str, Tensor] = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as wrong:
        raise ValueError(f"{path} cannot be read as safetensors ({wrong}): give another file.") from wrong
    return loaded


def fill(network: nn.Module, weights: Mapping[str, Tensor], classes: int) -> list[str]:
    """Puts weights into a fresh network, but for a head that was made for another number of classes.

    Args:
        network: is changed.
        weights: by the names of the network.
        classes: how many classes the network has: what has as many outputs is its head.

    Returns:
        The names of the head's weights that stay fresh.

    Raises:
        ValueError: when anything else does not fit.
    """
    fresh = network.state_dict()
    known = {name: tensor for name, tensor in weights.items() if not name.startswith(("AuxLogits.", "aux1.", "aux2."))}
    heads = [name for name, tensor in known.items() if name in fresh and _other_head(tensor, fresh[name], classes)]
    for name in sorted(fresh.keys() | known.keys()):
        if name not in heads and _shape(fresh.get(name)) != _shape(known.get(name)):
            told = f"{name} is {_shape(known.get(name))} there and {_shape(fresh.get(name))} in the network"
            raise ValueError(f"The weights do not fit ({told}): choose the network that they are of.")
    with torch.no_grad():
        network.load_state_dict({**fresh, **{name: t for name, t in known.items() if name not in heads}})
    return heads


def _arguments(name: str, height: int, width: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return _WITHOUT_SIDE_HEADS
    if name.startswith("vit_"):
        if height != width:
            raise ValueError(f"{name} takes square pictures only, not {width} x {height}.")
        return {"image_size": height}
    if name == "maxvit_t":
        return {"input_size": (height, width)}
    return {}


def _other_head(stored: Tensor, fresh: Tensor, classes: int) -> bool:
    return fresh.ndim > 0 and fresh.shape[0] == classes != stored.shape[0] and fresh.shape[1:] == stored.shape[1:]


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
