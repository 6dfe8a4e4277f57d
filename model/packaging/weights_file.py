"""Decode a bundle's `weights.safetensors` into its network, and encode it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch.overrides import TorchFunctionMode

from model.networks import factory
from model.packaging.manifest import WEIGHTS_FILE, InvalidBundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from model.packaging.manifest import Manifest, NetworkSpec

STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_RANDOM_FILLS = {torch.Tensor.normal_, torch.Tensor.uniform_}


def decode(data: bytes, manifest: Manifest, folder: Path) -> nn.Module:
    """Build the network of a manifest with the weights of a file's bytes.

    Raises:
        InvalidBundle: the bytes are not safetensors, or the weights are misshapen, not finite or of another dtype.
    """
    path = folder / WEIGHTS_FILE
    # Nothing of the size that the manifest promises is allocated before it is known to fit the weights.
    member = _build_on_meta(dataclasses.replace(manifest.network, members=1, mirrored=False))
    weights = _parse(data, path)
    members, tensors = manifest.network.members, len(member.state_dict())
    if len(weights) != members * tensors:
        problem = f"it has {len(weights)} tensors, {members} networks of {tensors} each are expected"
        raise InvalidBundle(f"{path} does not fit model.json ({problem}): restore the bundle.")
    network = _build_on_meta(manifest.network)
    expected = network.state_dict()
    _check_tensors(weights, expected, STORED_DTYPES[manifest.precision], path)
    weights = {name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}
    network.load_state_dict(weights, assign=True)
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):  # some are not in the weights
        network = factory.from_spec(manifest.network)
        network.load_state_dict(weights)
    return network


def encode(network: nn.Module, precision: str) -> bytes:
    """Return the file's bytes, with floating-point tensors stored at `precision`."""
    stored_tensors = {
        name: tensor.detach().cpu().to(STORED_DTYPES[precision] if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in network.state_dict().items()
    }
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in stored_tensors.items()})


class _NoRandomFills(TorchFunctionMode):
    """Leave out random initial weights.

    On the meta device they are nothing, but torch would import its compiler for them: 155 MB in every worker.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor as it is for a random fill; call any other function."""
        del types
        return args[0] if func in _RANDOM_FILLS else func(*args, **(kwargs or {}))


def _build_on_meta(spec: NetworkSpec) -> nn.Module:
    """Build a network without memory for its weights, if its builder can do with shapes only."""
    try:
        try:
            with torch.device("meta"), _NoRandomFills():
                return factory.from_spec(spec)
        except (NotImplementedError, RuntimeError):  # the builder computes its widths with tensors
            return factory.from_spec(spec)
    except ValueError as error:
        raise InvalidBundle(f"The bundle's network cannot be built: {error}") from error


def _parse(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InvalidBundle(f"{path} is not a safetensors file ({error}): restore the bundle.") from error
    return weights


def _check_tensors(
    weights: Mapping[str, Tensor], state_dict: Mapping[str, Tensor], precision: torch.dtype, path: Path
) -> None:
    actual_specs = {name: _tensor_spec(tensor, tensor.dtype) for name, tensor in weights.items()}
    expected_specs = {name: _tensor_spec(tensor, precision) for name, tensor in state_dict.items()}
    for name in sorted(actual_specs.keys() | expected_specs.keys()):
        if actual_specs.get(name) != expected_specs.get(name):
            problem = f"{name} is {actual_specs.get(name, 'absent')}, expected {expected_specs.get(name, 'absent')}"
            raise InvalidBundle(f"{path} does not fit model.json ({problem}): restore the bundle.")
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            problem = f"NaN or infinity in {name}"
            raise InvalidBundle(f"{path} has {problem}: train again with a smaller rate or a finer --precision.")


def _tensor_spec(tensor: Tensor, precision: torch.dtype) -> str:
    """Describe a tensor's stored dtype and shape; only floating-point tensors are stored at `precision`."""
    stored_dtype = precision if tensor.is_floating_point() else tensor.dtype
    return f"{str(stored_dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
