"""Build networks by name with fresh weights, and ensembles of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import nn

from model.networks import batchnorm_folding, cookpad_cnn, efficientnet_lite, residual, timm_zoo, torchvision_zoo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.networks.spec import NetworkSpec

    NetworkBuilder = Callable[[int, int, int], nn.Module]


def build(name: str, *, classes: int, height: int, width: int) -> nn.Module:
    """Build a network with fresh weights: float [N, 3, height, width] in, logits [N, classes] out.

    Raises:
        ValueError: the name is unknown, or the network cannot take this size.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, not {classes}.")
    check_name(name)
    if name in NETWORKS:
        return NETWORKS[name](classes, height, width)
    network: nn.Module = find_zoo(name).build(name, classes, height, width)
    return network


def find_zoo(name: str) -> Any:
    """Return the module that builds a network of this name, which is not one of ours."""
    return torchvision_zoo if name in torchvision_zoo.list_names() else timm_zoo


def check_name(name: str) -> None:
    """Raise ValueError with the known names if the name is unknown: ours, then torchvision's, then timm's."""
    if name not in NETWORKS and name not in torchvision_zoo.list_names() and not timm_zoo.has(name):
        known_names = ", ".join([*NETWORKS, *torchvision_zoo.list_names()])
        raise ValueError(f"Unknown network {name!r}: use {known_names}, or one of {timm_zoo.description()}.")


@runtime_checkable
class TrainingForm(Protocol):
    """A network in the form in which it is trained."""

    def fold(self) -> nn.Module:
        """Return the form that is served, in eval mode on the CPU, with the same outputs."""


class Ensemble(nn.Module):
    """The mean of the logits of several networks; if `mirrored`, over the image and its mirror image."""

    def __init__(self, members: Sequence[nn.Module], *, mirrored: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._mirrored = mirrored

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes] for images [N, 3, H, W]."""
        views = [images, images.flip(3)] if self._mirrored else [images]
        return torch.stack([member(view) for member in self.members for view in views]).mean(dim=0)


def ensemble(members: Sequence[nn.Module], *, mirrored: bool) -> nn.Module:
    """Return one network that averages the members; a single member that is not mirrored is returned as it is."""
    return members[0] if len(members) == 1 and not mirrored else Ensemble(members, mirrored=mirrored)


def from_spec(spec: NetworkSpec) -> nn.Module:
    """Build the network of a manifest with fresh weights; raise ValueError as `build` does."""
    size = {"height": spec.height, "width": spec.width}
    members = [build(spec.name, classes=spec.classes, **size) for _ in range(spec.members)]
    return ensemble(members, mirrored=spec.mirrored)


def training_form(name: str, network: nn.Module) -> nn.Module:
    """Return the form in which a fresh network is trained; `inference_form` is its inverse."""
    return (
        batchnorm_folding.BatchNormTrainingForm(network)
        if name == "cookpad-cnn" and isinstance(network, nn.Sequential)
        else network
    )


def inference_form(network: nn.Module) -> nn.Module:
    """Return the form that is served, with the same outputs."""
    return network.fold() if isinstance(network, TrainingForm) else network


def check_input_sizes(spec: NetworkSpec, sides: Sequence[tuple[int, int]] = ()) -> None:
    """Raise ValueError if the network cannot take its own size or one of `sides` (height, width).

    Runs on the meta device, which computes shapes only.
    """
    built = from_spec(spec).to("meta")
    for height, width in ((spec.height, spec.width), *sides):
        try:
            built(torch.zeros(2, 3, height, width, device="meta"))
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            advice = (
                f"leave out sizes, it takes {spec.width} x {spec.height} only" if sides else "choose another --size"
            )
            raise ValueError(f"{spec.name} cannot take images of {width} x {height}: {advice}.") from error


NETWORKS: dict[str, NetworkBuilder] = {
    "cookpad-cnn": cookpad_cnn.build,
    "residual": residual.build,
    **{name: efficientnet_lite.builder(variant) for name, variant in efficientnet_lite.VARIANTS.items()},
}
