"""Keeps what a network is shown: which pictures an epoch has, in which order, how augmented and mixed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from model import augment, inputs

if TYPE_CHECKING:
    from torch import Tensor

    from model.data import Photos
    from model.preprocess import Preprocess
    from model.recipe import Recipe


class Batches:
    """Every picture of `photos` and `extra` as often in an epoch as the recipe says, in a new order each time.

    All chance is drawn from one generator on the CPU: its state and the epoch's order are all that is needed to
    go on in the middle of an epoch.
    """

    def __init__(
        self,
        photos: Photos,
        extra: Photos | None,
        shape: Preprocess,
        recipe: Recipe,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.generator = generator
        self._photos, self._extra, self._shape, self._recipe, self._device = photos, extra, shape, recipe, device
        self._normalise = inputs.Normalise(shape, device)

    def pictures(self, epoch: int) -> int:
        """How many pictures an epoch has (the first is 0)."""
        return sum(self._counts(epoch))

    def steps(self, epoch: int) -> int:
        """How many batches an epoch has: of `batch` pictures or a few more, since batch norm cannot do with one."""
        return max(1, self.pictures(epoch) // self._recipe.batch)

    def order(self, epoch: int) -> Tensor:
        """Positions of the epoch's pictures in the order of their turn; those of `extra` follow on `photos`'."""
        own, extra = self._counts(epoch)
        drawn = [self._drawn(own, len(self._photos))]
        if extra and self._extra:
            drawn.append(self._drawn(extra, len(self._extra)) + len(self._photos))
        chosen = torch.cat(drawn)
        return chosen[torch.randperm(len(chosen), generator=self.generator)]

    def batch(self, epoch: int, step: int, order: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pictures [n, 3, H, W] in channels-last and target shares [n, classes], on the device."""
        recipe, steps = self._recipe, self.steps(epoch)
        chosen = order[step * len(order) // steps : (step + 1) * len(order) // steps]
        pixels, targets = self._gathered(chosen)
        pictures = recipe.augment(pixels, *self.size(epoch), self.generator)
        mixing = (recipe.mixup, recipe.cutmix, recipe.mix_chance)
        pictures, targets = augment.mix(pictures, targets, *mixing, self.generator)
        return self._normalise(pictures).contiguous(memory_format=torch.channels_last), targets

    def size(self, epoch: int) -> tuple[int, int]:
        """Height and width of an epoch's pictures."""
        for share, side in self._recipe.sizes:
            if epoch < share * self._recipe.epochs:
                return side, side
        return self._shape.height, self._shape.width

    def _counts(self, epoch: int) -> tuple[int, int]:
        """How many pictures of DATA and of extra an epoch has."""
        own = max(1, round(self._recipe.weight * len(self._photos)))
        if not self._extra or epoch >= self._recipe.extra_until * self._recipe.epochs:
            return own, 0
        return own, round(self._recipe.extra_weight * len(self._extra))

    def _drawn(self, count: int, size: int) -> Tensor:
        """Positions below `size`, each as often as another or once more."""
        rounds = [torch.randperm(size, generator=self.generator) for _ in range(math.ceil(count / size))]
        return torch.cat(rounds)[:count]

    def _gathered(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 pictures [n, H, W, 3] and one-hot targets, those of DATA first."""
        own, others = chosen[chosen < len(self._photos)].numpy(), chosen[chosen >= len(self._photos)].numpy()
        parts = [(self._photos, own)]
        if self._extra:
            parts.append((self._extra, others - len(self._photos)))
        pixels = torch.cat([torch.from_numpy(photos.take(positions)) for photos, positions in parts])
        targets = torch.cat([torch.from_numpy(photos.targets[positions]) for photos, positions in parts])
        shares = functional.one_hot(targets, len(self._photos.labels)).float()
        return self._moved(pixels), self._moved(shares)

    def _moved(self, tensor: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return tensor
        # Only from pinned memory does a copy go on beside the work of the GPU.
        return tensor.pin_memory().to(self._device, non_blocking=True)
