"""Presets: per network, the preprocessing of serving and the default recipe of training.

Our own networks see the whole image, stretched to their size with an area filter (preprocessing/decode.py). Published
weights get the preprocessing that they were trained with: the middle of the image. Training by steps passes a crop of
a larger copy through the same filter (augment.py), so that both blur alike, and normalises with the same mean and std.
Why not torchvision's transforms: docs/decisions/0013.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from model.networks import efficientnet_lite, factory, residual
from model.preprocessing.decode import Preprocess
from model.training import augment
from model.training.recipe import Recipe

if TYPE_CHECKING:
    from model.preprocessing.decode import Resample

# Larger images cost a worker a third more, and gave the same held-out figures: docs/decisions/0032.
MAX_LITE_SIDE = 224
HALF, QUARTER = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclasses.dataclass(frozen=True)
class Preset:
    """The preprocessing of serving at the network's own size, and the default recipe."""

    serving: Preprocess
    recipe: Recipe

    def serving_preprocess(self, side: int | None) -> Preprocess:
        """Return the preprocessing of serving at a size, or at the network's own."""
        return dataclasses.replace(self.serving, width=side, height=side) if side else self.serving

    def recipe_at(self, side: int | None) -> Recipe:
        """Return the recipe at a size, or at the network's own: the images of its stages are smaller in proportion."""
        if not side:
            return self.recipe
        scale = side / self.serving.width
        # Only the recipe of `residual` has stages.
        sizes = tuple((share, max(residual.MIN_SIDE, round(scale * size))) for share, size in self.recipe.sizes)
        return dataclasses.replace(self.recipe, sizes=sizes)


def crop_preprocess(serving: Preprocess, detail: float) -> Preprocess:
    """Return the preprocessing of training: `detail` times larger, so that crops stay sharp."""
    return dataclasses.replace(serving, width=round(detail * serving.width), height=round(detail * serving.height))


def get_preset(network: str, *, pretrained: bool, distilled: bool = False) -> Preset:
    """Return the preset of a network, for fresh weights, for published ones or for distillation.

    Raises:
        ValueError: the network is unknown.
    """
    factory.check_name(network)
    if network in _PRESETS:
        preset = _PRESETS[network]
        return dataclasses.replace(preset, recipe=_DISTILLED) if distilled else preset
    published = _published_preprocess(network)
    if pretrained:
        return Preset(published, _FINE_TUNING_DISTILLED if distilled else _FINE_TUNING)
    return Preset(dataclasses.replace(published, resample="box", fit="stretch", crop=1.0), _FRESH)


def _published_preprocess(network: str) -> Preprocess:
    """Return the preprocessing that the published weights were trained with."""
    zoo = efficientnet_lite if network in efficientnet_lite.VARIANTS else factory.find_zoo(network)
    side, resample, mean, std, crop = zoo.published_input(network)
    side = min(side, MAX_LITE_SIDE) if zoo is efficientnet_lite else side
    return Preprocess(side, side, cast("Resample", resample), mean, std, "crop", crop)


_FROM_SCRATCH = Recipe(
    optimizer="muon",
    learning_rate=6e-3,
    mixup=0.2,
    cutmix=1.0,
    early=True,
    augment=augment.Augmentation(min_area=0.25),
)
_PRESETS = {
    "cookpad-cnn": Preset(
        Preprocess(64, 64, mean=HALF, std=QUARTER), dataclasses.replace(_FROM_SCRATCH, epochs=80, batch=32)
    ),
    "residual": Preset(
        Preprocess(160, 160, mean=HALF, std=QUARTER),
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
# Soft targets of many views are hardly overfitted, so that more epochs do no harm.
_DISTILLED = dataclasses.replace(
    _FROM_SCRATCH, epochs=60, batch=64, weight=4.0, label_smoothing=0.0, cutmix=0.0, early=False
)
# Few epochs and small steps, to preserve what the weights have learned.
_FINE_TUNING = Recipe(epochs=20, learning_rate=2e-4, detail=1.3)
_FINE_TUNING_DISTILLED = dataclasses.replace(
    _FINE_TUNING, epochs=8, batch=64, weight=4.0, label_smoothing=0.0, mixup=0.2
)
