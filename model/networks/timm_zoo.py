"""Build timm's classifiers by name, with fresh or published weights.

timm is imported on first use: only a bundle that names one of its networks makes a worker load it. It is a part of the
`train` extra.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from model.networks.spec import PublishedInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

CONNECT_SECONDS = 10  # as huggingface_hub itself waits for an answer


def has(name: str) -> bool:
    """Whether timm is installed and has a network of this name, which may end in the tag of its weights."""
    timm = _timm()
    try:
        return timm is not None and timm.is_model(name) and timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # it has no weights of this tag
        return False


def description() -> str:
    """Return how many networks there are and where to find their names, as a part of an error message."""
    timm = _timm()
    if timm is None:
        return "timm's, after installing the extra `train`"
    return f"the {len(timm.list_models())} of timm (timm.list_models() has their names)"


def build(name: str, classes: int, height: int, width: int) -> nn.Module:
    """Build one of timm's networks with fresh weights.

    Raises:
        ValueError: it has no weights of this tag, or cannot take images of this size.
    """
    size = {"img_size": (height, width)} if _config(name).fixed_input_size else {}
    try:
        network: nn.Module = _timm().create_model(name, pretrained=False, num_classes=classes, **size)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].removesuffix(".")
        raise ValueError(
            f"{name} cannot be built for images of {width} x {height} ({reason}): choose another size or network."
        ) from error
    return network


def download_weights(name: str) -> Mapping[str, Tensor]:
    """Return the published weights of a network, from the cache on this machine or by download.

    Raises:
        ValueError: there are none, or they cannot be downloaded.
    """
    config = _config(name)
    if not config.has_weights:
        raise ValueError(f"timm has no pre-trained weights for {name}: give --weights FILE, or leave it out.")
    if config.hf_hub_id:
        _go_offline_if_unreachable()
    try:
        state: Mapping[str, Tensor] = _timm().create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        problem = f"The weights of {name} cannot be downloaded from {config.hf_hub_id or config.url}"
        advice = "download model.safetensors elsewhere and give it as --weights FILE"
        raise ValueError(f"{problem} ({str(error).partition(chr(10))[0]}): {advice}.") from error
    return state


def published_input(name: str) -> PublishedInput:
    """Return the input that timm's weights for this network were trained on."""
    config = _config(name)
    side, crop = int(config.input_size[1]), min(1.0, config.crop_pct)
    return PublishedInput(side, config.interpolation, tuple(config.mean), tuple(config.std), crop)


def describe_origin(name: str) -> str:
    """Return where timm's weights of a network come from, and their licence as timm states it."""
    config = _config(name)
    return f"{config.hf_hub_id or config.url} of timm; licence {config.license or 'not stated'}"


def _go_offline_if_unreachable() -> None:
    """Make huggingface_hub use its cache only if its server cannot be reached; it would retry for 48 seconds."""
    import huggingface_hub  # noqa: PLC0415 - installed with timm

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except Exception:  # noqa: BLE001 - the type depends on huggingface_hub's HTTP library
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def _config(name: str) -> Any:
    """Return timm's configuration of a network for which `has` returns true."""
    return _timm().get_pretrained_cfg(name)


@functools.cache
def _timm() -> Any:
    try:
        import timm  # noqa: PLC0415 - see above
    except ImportError:
        return None
    return timm
