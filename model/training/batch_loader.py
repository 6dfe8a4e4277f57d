"""Load the batches of an epoch: images in a random order, augmented and mixed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from model.preprocessing import normalize
from model.training import augment

if TYPE_CHECKING:
    from torch import Tensor

    from model.datasets.dataset import ImageDataset
    from model.preprocessing.decode import Preprocess
    from model.training.recipe import Recipe


class BatchLoader:
    """Load each image of `images` and `extra` as often per epoch as the recipe says, in another order each time.

    All random numbers come from one CPU generator: its state and the epoch's order are enough to resume in the middle
    of an epoch.
    """

    def __init__(
        self,
        images: ImageDataset,
        extra: ImageDataset | None,
        preprocess: Preprocess,
        recipe: Recipe,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.generator = generator
        self._images, self._extra = images, extra
        self._preprocess, self._recipe, self._device = preprocess, recipe, device
        self._normalizer = normalize.Normalize(preprocess, device)

    def image_count(self, epoch: int) -> int:
        """Return the number of images in an epoch (the first is 0)."""
        return sum(self._image_counts(epoch))

    def step_count(self, epoch: int) -> int:
        """Return the number of batches in an epoch, each of `batch` images or more: batch norm needs more than one."""
        return max(1, self.image_count(epoch) // self._recipe.batch)

    def order(self, epoch: int) -> Tensor:
        """Draw the order of an epoch: positions of images, where those of `extra` follow those of `images`."""
        main_count, extra_count = self._image_counts(epoch)
        position_groups = [self._draw_positions(main_count, len(self._images))]
        if extra_count and self._extra:
            position_groups.append(self._draw_positions(extra_count, len(self._extra)) + len(self._images))
        positions = torch.cat(position_groups)
        return positions[torch.randperm(len(positions), generator=self.generator)]

    def batch(self, epoch: int, step: int, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised images [n, 3, H, W], channels-last, and soft targets [n, classes], on the device."""
        recipe, steps = self._recipe, self.step_count(epoch)
        positions = order[step * len(order) // steps : (step + 1) * len(order) // steps]
        pixels, targets = self._gather(positions)
        images = recipe.augment(pixels, *self.image_size(epoch), self.generator)
        mixing = (recipe.mixup, recipe.cutmix, recipe.mix_chance)
        images, targets = augment.mix(images, targets, *mixing, self.generator)
        return self._normalizer(images).contiguous(memory_format=torch.channels_last), targets

    def image_size(self, epoch: int) -> tuple[int, int]:
        """Return height and width of an epoch's images."""
        for share, side in self._recipe.sizes:
            if epoch < share * self._recipe.epochs:
                return side, side
        return self._preprocess.height, self._preprocess.width

    def _image_counts(self, epoch: int) -> tuple[int, int]:
        """Return how many images of `images` and `extra` an epoch has: two or more, for batch norm."""
        main_count = max(2, round(self._recipe.weight * len(self._images)))
        if not self._extra or epoch >= self._recipe.extra_until * self._recipe.epochs:
            return main_count, 0
        return main_count, round(self._recipe.extra_weight * len(self._extra))

    def _draw_positions(self, count: int, size: int) -> Tensor:
        """Draw positions below `size`, whose frequencies differ by at most one."""
        permutations = [torch.randperm(size, generator=self.generator) for _ in range(math.ceil(count / size))]
        return torch.cat(permutations)[:count]

    def _gather(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 images [n, H, W, 3] and their soft targets, those of `images` first."""
        is_extra = positions >= len(self._images)
        parts = [(self._images, positions[~is_extra].numpy())]
        if self._extra:
            parts.append((self._extra, positions[is_extra].numpy() - len(self._images)))
        pixels = torch.cat([torch.from_numpy(dataset.pixels_at(selected)) for dataset, selected in parts])
        targets = torch.cat([torch.from_numpy(dataset.target_probabilities(selected)) for dataset, selected in parts])
        return self._to_device(pixels), self._to_device(targets)

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return tensor
        # Only copies from pinned memory overlap with the GPU's work.
        return tensor.pin_memory().to(self._device, non_blocking=True)
