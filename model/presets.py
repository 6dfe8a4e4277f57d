"""Keeps, side by side for each network, how pictures are served to it and how it is trained by default.

In service a picture is stretched to the network's size by an area filter (preprocess.py); in training a crop of a
larger copy goes through the same filter (augment.py), so that nothing is blurred in another way than what is served.
Both then get the mean and std of the same line here. Why not torchvision's transforms: docs/decisions/0013.
"""

from __future__ import annotations

import dataclasses

from model import augment, networks, zoo
from model.preprocess import Preprocess
from model.recipe import Recipe

HALF, QUARTER = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclasses.dataclass(frozen=True)
class Preset:
    """Size and normalisation of the input in service, and the recipe of training."""

    size: int
    recipe: Recipe
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = QUARTER

    def served(self, size: int | None) -> Preprocess:
        """What the network sees in service: the whole picture, stretched."""
        side = size or self.size
        return Preprocess(side, side, mean=self.mean, std=self.std)


def larger(served: Preprocess, detail: float) -> Preprocess:
    """What training cuts its crops from: so many times larger that a crop of a part of it is still sharp."""
    return dataclasses.replace(served, width=round(detail * served.width), height=round(detail * served.height))


def of(network: str, *, finetuned: bool) -> Preset:
    """The preset of a network: for fresh weights, or for fine-tuning weights that know other pictures.

    Raises:
        ValueError: for an unknown network.
    """
    networks.check_name(network)
    if network in _OURS:
        return _OURS[network]
    size, mean, std = zoo.normalisation(network)
    return Preset(size, _FINETUNING if finetuned else _FRESH, mean, std)


_FROM_SCRATCH = Recipe(
    optimizer="muon",
    learning_rate=6e-3,
    mixup=0.2,
    cutmix=1.0,
    early=True,
    augment=augment.Augment(min_area=0.25),
)
_OURS = {
    "cookpad-cnn": Preset(64, dataclasses.replace(_FROM_SCRATCH, epochs=80, batch=32)),
    "residual": Preset(
        160,
        dataclasses.replace(
            _FROM_SCRATCH,
            epochs=44,
            batch=64,
            weight=4.0,
            sizes=((0.45, 96), (1.0, 144)),
            detail=1.3,
            mirrored=True,
        ),
    ),
}
_FRESH = Recipe(epochs=100, mixup=0.2, cutmix=1.0)
# Few epochs with small steps: what the weights know already is not to be unlearned.
_FINETUNING = Recipe(epochs=20, learning_rate=2e-4, detail=1.3)
