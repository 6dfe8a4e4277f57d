"""Build torchvision's classifiers by name, and load weights to start from.

torchvision is imported on first use: a worker that serves one of our networks does not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.networks.spec import PublishedInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

# Smaller images run, but their last feature maps are smaller than the filters.
MIN_SIDE = 32
_NO_AUX_HEADS = {"aux_logits": False, "init_weights": True}


def list_names() -> list[str]:
    """Return the names of all torchvision classifiers."""
    models = _models()
    model_names: list[str] = models.list_models(module=models)
    return model_names


def build(name: str, classes: int, height: int, width: int) -> nn.Module:
    """Build a torchvision network with fresh weights.

    Raises:
        ValueError: it cannot take images of this size.
    """
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{name} needs images of at least {MIN_SIDE} x {MIN_SIDE} pixels, not {width} x {height}.")
    try:
        network: nn.Module = _models().get_model(
            name, weights=None, num_classes=classes, **_extra_arguments(name, height, width)
        )
    except (ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} cannot take images of {width} x {height}: {reason}") from error
    return network


def published_input(name: str) -> PublishedInput:
    """Return the input that torchvision's weights for this network were trained on."""
    transforms = _models().get_model_weights(name).DEFAULT.transforms()
    side = int(transforms.crop_size[0])
    crop = min(1.0, side / int(transforms.resize_size[0]))
    return PublishedInput(side, transforms.interpolation.value, tuple(transforms.mean), tuple(transforms.std), crop)


def download_weights(name: str) -> Mapping[str, Tensor]:
    """Return torchvision's own weights for a network, from its cache or by download.

    Raises:
        ValueError: they cannot be downloaded.
    """
    best_weights = _models().get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Tensor] = best_weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        problem = f"{best_weights.url} cannot be downloaded ({error})"
        advice = "download it elsewhere, convert it to .safetensors and give it as --weights FILE"
        raise ValueError(f"{problem}: {advice}.") from error
    return state


def describe_origin(name: str) -> str:
    """Return where torchvision's weights of a network come from, and the licence that their metadata name, if any."""
    best_weights = _models().get_model_weights(name).DEFAULT
    licence = best_weights.meta.get("license", "torchvision states no licence of its own for them")
    return f"{best_weights} of torchvision, from {best_weights.url}; {licence}"


def _models() -> Any:
    from torchvision import models  # noqa: PLC0415 - see above

    return models


def _extra_arguments(name: str, height: int, width: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return _NO_AUX_HEADS
    if name.startswith("vit_"):
        if height != width:
            raise ValueError(f"{name} takes square images only, not {width} x {height}.")
        return {"image_size": height}
    if name == "maxvit_t":
        return {"input_size": (height, width)}
    return {}
